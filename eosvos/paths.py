"""Paths and addresses that a person gives on the command line, made absolute."""

import os
from pathlib import Path

from eosvos.errors import BadInput


def absolute_path(path: Path, flag: str) -> Path:
    """An absolute path as it is; a relative one against the working directory.

    Raises:
        BadInput: a URI, or a relative path in a submitted job, whose working directory is thrown away.
    """
    if ":/" in str(path):  # a Path has made one slash of the two
        raise BadInput(f"{flag} {path}: a URI cannot be used here; name a folder or file that all nodes see")
    if is_submitted_job() and not path.is_absolute():
        raise BadInput(f"{flag} {path}: a submitted job runs in a throw-away copy of the code; give an absolute path")
    return path.resolve()


def absolute_address(address: str, flag: str) -> str:
    """Of an encoded dataset, as ``absolute_path``, but a URI is taken as it is. Raises BadInput for none, too."""
    if not address:
        raise BadInput(f"{flag}: name an encoded dataset; make one with jobs/encode_dataset.py")
    return address if "://" in address else str(absolute_path(Path(address), flag))


def is_submitted_job() -> bool:
    """True inside ``ray job submit``, where the working directory is a throw-away copy."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
