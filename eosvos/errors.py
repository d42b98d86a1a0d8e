"""The one exception that means "the input is wrong, not the program"."""


class BadInput(Exception):  # noqa: N818 - it blames the input, not the program
    """A file, folder or setting that cannot be used.

    The message is one line that names the file or field and says what to do about it. Commands print it and
    exit with code 2.
    """
