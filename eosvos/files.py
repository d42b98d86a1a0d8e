"""Files that are whole or absent, and folders that one process at a time works in."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> Path:
    """Writes a file under a temporary name and renames it, so that whoever looks finds all of it or none.

    Args:
        path: of the file; its folder exists.
        content: of the file.

    Returns:
        ``path``.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    temporary = unfinished(path)
    try:
        temporary.write_bytes(content)
        return temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> Path:
    """Where ``write_whole`` writes before it renames, which a kill may leave."""
    return path.with_name(f".{path.name}.unfinished")


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool | None]:
    """Locks a folder against everybody else who asks for it here. The lock ends with the process, however it dies.

    Args:
        folder: which.
        wait: until it is free, instead of finding out whether it is.

    Yields:
        True where it is ours, False where another has it, None where nobody can know: the folder is gone, or on a file
        system without locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        ours: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            ours = False
        except OSError:
            ours = None
        yield ours
    finally:
        os.close(descriptor)
