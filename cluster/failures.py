"""When parts of a work fail, such as sequences or settings: what is said of each, and what is raised in the end."""

from collections.abc import Mapping

from cluster.session import bad_input_in
from eosvos.errors import PartsFailed


def failure(failed: Mapping[str, Exception], of: int, parts: str) -> Exception:
    """What to raise in the end: bad input where that is what all parts are, else an error that names those that failed.

    Args:
        failed: name of a part -> what it raised; at least one.
        of: how many parts there are.
        parts: what they are, such as ``sequences``.
    """
    bad = [found for error in failed.values() if (found := bad_input_in(error)) is not None]
    if len(bad) == of:
        return bad[0]
    named = "; ".join(f"{name} ({last_line(error)})" for name, error in failed.items())
    return PartsFailed(f"{len(failed)} of {of} {parts} failed: {named}")


def last_line(error: Exception) -> str:
    """The last line of what an error says: of Ray's, which carry a traceback, the error itself."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
