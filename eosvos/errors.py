"""The exceptions that are no fault of the program: the input is wrong, or parts of the work have failed."""


class BadInput(Exception):  # noqa: N818 - it blames the input, not the program
    """A file, folder or setting that cannot be used.

    The message is one line that names the file or field and says what to do about it. Commands print it and
    exit with code 2.
    """


class PartsFailed(Exception):  # noqa: N818 - most of it may have gone well
    """Some parts of the work failed; the results of the others stand.

    The message is one line that names them. Commands print it and exit with code 1.
    """
