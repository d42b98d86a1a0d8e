"""Files that are whole or absent, and folders that one process at a time works in."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from eosvos.errors import BadInput


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


def make_folder(folder: Path) -> Path:
    """A folder for results, with its parents. Raises BadInput where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(_refused(folder, error)) from error
    return folder


def write_result(path: Path, content: bytes) -> Path:
    """As ``write_whole``, for a file that a person named; its folder is made. Raises BadInput where it cannot be."""
    make_folder(path.parent)
    try:
        return write_whole(path, content)
    except OSError as error:
        raise BadInput(_refused(path, error)) from error


def _refused(path: Path, error: OSError) -> str:
    return f"{path}: cannot be written ({error.strerror}); name another place, or make room or access there"


def unfinished(path: Path) -> Path:
    """Where ``write_whole`` writes before it renames, which a kill may leave."""
    return path.with_name(f".{path.name}.unfinished")


def lock_file(folder: Path) -> Path:
    """Beside a folder: a hidden file that is there while somebody has the folder, and that a kill may leave."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool | None]:
    """Locks a folder against everybody else who asks for it here. The lock ends with the process, however it dies.

    Args:
        folder: which.
        wait: until it is free, instead of finding out whether it is.

    Yields:
        True where it is ours, False where another has it, None where nobody can know: the folder is gone, no file can
        be made beside it, or it is on a file system without locks.
    """
    if not folder.is_dir():
        yield None
        return
    path = lock_file(folder.resolve())
    lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False)  # a soft lock would outlive a kill
    ours: bool | None = True
    try:
        lock.acquire()
    except Timeout:
        ours = False
    except OSError:
        ours = None
    try:
        yield ours
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes no open file; the lock does it there
                path.unlink()  # before the release: who waits for the old file finds that it is gone, and makes one
            lock.release()
