"""Files that are whole or absent, and locks: one at a time, gone with their process, and nothing left to see."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from eosvos.errors import BadInput
from eosvos.files import lock_file, locked, make_folder, unfinished, write_result, write_whole

HOLD = """
import sys
from pathlib import Path
from eosvos.files import locked
with locked(Path(sys.argv[1]), wait=True) as ours:
    print(ours, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def _holder(folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another process that waits for the lock, says so when it has it, and keeps it until it reads a line."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    assert write_whole(path, b"before") == path
    unfinished(path).write_bytes(b"what a kill left")

    def fails(self: Path, target: Path) -> Path:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="no"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_one_at_a_time(tmp_path: Path) -> None:
    """Also in one process; what there is to see is hidden, and gone afterwards."""
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder) as ours:
        assert ours is True
        assert sorted(tmp_path.iterdir()) == [lock_file(folder), folder]
        with locked(folder) as others:
            assert others is False
        with locked(folder) as again:
            assert again is False
        assert lock_file(folder).exists()
    assert list(tmp_path.iterdir()) == [folder]
    with locked(folder, wait=True) as ours:
        assert ours is True


def test_it_is_the_same_folder_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with locked(tmp_path / "link"), locked(Path("run")) as ours:
        assert ours is False


def test_another_process_has_it_until_it_is_killed(tmp_path: Path) -> None:
    """The file that it leaves keeps nobody out."""
    folder = tmp_path / "run"
    folder.mkdir()
    with _holder(folder) as process:
        assert _said(process) == "True"
        with locked(folder) as ours:
            assert ours is False
        process.kill()
        process.wait()
        assert lock_file(folder).exists()
        with locked(folder) as ours:
            assert ours is True
    assert list(tmp_path.iterdir()) == [folder]


def test_who_waits_gets_it(tmp_path: Path) -> None:
    """Although the file that it waits for is removed by the one that has it."""
    folder = tmp_path / "run"
    folder.mkdir()
    with _holder(folder) as first, _holder(folder) as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go on\n")
            process.stdin.flush()
        assert [_said(process) for process in (first, second)] == ["True", "True"]
        assert [process.wait() for process in (first, second)] == [0, 0]
    assert list(tmp_path.iterdir()) == [folder]


def test_nobody_can_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path / "gone") as ours:
        assert ours is None
    assert list(tmp_path.iterdir()) == []

    def without_locks(self: FileLock, *arguments: Any, **options: Any) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr(FileLock, "acquire", without_locks)
    with locked(tmp_path) as ours:
        assert ours is None


def test_results_where_none_can_be(tmp_path: Path) -> None:
    """A file that the folder would have to be, or a folder that the file would."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "sheet.png").mkdir()
    for write, place in (
        (make_folder, "notes.txt"),
        (make_folder, "notes.txt/out"),
        (lambda path: write_result(path, b"new"), "notes.txt/a.zip"),
        (lambda path: write_result(path, b"new"), "sheet.png"),
    ):
        with pytest.raises(BadInput, match=r"(notes\.txt|sheet\.png)\S*: cannot be written \(.*\); name another place"):
            write(tmp_path / place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes.txt", "sheet.png"]
    assert write_result(tmp_path / "new" / "a.zip", b"new").read_bytes() == b"new"
