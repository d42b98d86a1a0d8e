"""An encoding that is interrupted: what is whole is kept, nothing looks whole, and nobody else gets in."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eosvos.data.parquet import encode, open_dataset, parts
from eosvos.data.parquet.layout import CARD, CLAIM, INDEX, SKIPPED
from eosvos.data.parquet.parts import cut
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.data.sequence import EncodedFrame, Sequence
from eosvos.errors import BadInput
from eosvos.files import locked

Watched = Callable[..., list[Sequence]]
SPEC = {"layout": "made"}
TINY = SyntheticSettings(size=32, frames=3)
FILES = ["data-00000.parquet", "data-00001.parquet", "data-00002.parquet", "data-00003.parquet", "data-00004.parquet"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence of three frames is a part."""
    monkeypatch.setattr(parts, "LEAST_FRAMES", 3)
    monkeypatch.setattr(parts, "MOST_FRAMES", 3)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _stop_at(number: int, error: type[BaseException]) -> Callable[[int], None]:
    def stop(read: int) -> None:
        if read == number:
            raise error

    return stop


def _broken(sequence: Sequence) -> Sequence:
    """With a last frame that is no image."""

    def read(position: int) -> EncodedFrame:
        frame = sequence.read(position)
        return replace(frame, image=b"no image") if position == len(sequence) - 1 else frame

    return replace(sequence, read=read)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_goes_on_where_it_was(tmp_path: Path, watched: Watched, error: type[BaseException]) -> None:
    out = tmp_path / "out"
    sequences = synthetic("train", 5, TINY)
    with pytest.raises(error):
        encode(watched(sequences, _stop_at(9, error)), out, SPEC)
    assert _names(tmp_path) == ["out.partial"]
    whole = ["data-00000.parquet", "data-00001.parquet"]
    assert [name for name in _names(tmp_path / "out.partial") if not name.startswith("_")] == whole
    reads: list[int] = []
    assert encode(watched(sequences, reads.append), out, SPEC)
    assert reads == list(range(1, 10))  # of the last three
    assert _names(tmp_path) == ["out"]
    assert _names(out) == [CARD, INDEX, *FILES]
    encode(sequences, tmp_path / "at once", SPEC)
    for name in (INDEX, *FILES):
        assert (out / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_leaves_nothing_where_nothing_is_whole(tmp_path: Path, watched: Watched, error: type[BaseException]) -> None:
    with pytest.raises(error):
        encode(watched(synthetic("train", 2, TINY), _stop_at(3, error)), tmp_path / "out", SPEC)
    assert _names(tmp_path) == []


def test_killed_and_begun_again(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom dataclasses import replace\nfrom pathlib import Path\n"
        "from eosvos.data.parquet import encode, parts\n"
        "from eosvos.data.readers.synthetic import SyntheticSettings, synthetic\n"
        "parts.LEAST_FRAMES = parts.MOST_FRAMES = 3\n"
        "sequences = synthetic('train', 5, SyntheticSettings(size=32, frames=3))\n"
        "third = sequences[2]\n"
        "def read(position):\n"
        "    if position == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return third.read(position)\n"
        "sequences[2] = replace(third, read=read)\n"
        "encode(sequences, Path(sys.argv[1]), {'layout': 'made'})"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert killed.returncode == -signal.SIGKILL
    partial = tmp_path / "out.partial"
    assert any(name.endswith(".unfinished") for name in _names(partial))
    with pytest.raises(BadInput, match="the encoding has not ended; the same command"):
        open_dataset(partial)
    with pytest.raises(BadInput, match=r"partial: .* differs in layout \(made there, other now\)"):
        encode(synthetic("train", 5, TINY), tmp_path / "out", {"layout": "other"})
    with pytest.raises(BadInput, match=r"differs in names and categories .* number of sequences \(5 there, 4 now\)"):
        encode(synthetic("train", 4, TINY), tmp_path / "out", SPEC)
    before = (partial / "data-00001.parquet").stat().st_mtime_ns
    assert encode(synthetic("train", 5, TINY), tmp_path / "out", SPEC)
    assert _names(tmp_path) == ["out"]
    assert _names(tmp_path / "out") == [CARD, INDEX, *FILES]
    assert (tmp_path / "out" / "data-00001.parquet").stat().st_mtime_ns == before


def test_killed_when_all_but_the_name_was_there(tmp_path: Path) -> None:
    sequences = synthetic("train", 2, TINY)
    encode(sequences, tmp_path / "out", SPEC)
    (tmp_path / "out").rename(tmp_path / "out.partial")
    (tmp_path / "out.partial" / CLAIM).write_text("{}")
    (tmp_path / "out.partial" / "_part-00001.parquet").write_bytes(b"")
    assert not encode(sequences, tmp_path / "out", SPEC)
    assert _names(tmp_path / "out") == [CARD, INDEX, *FILES[:2]]


def test_killed_before_the_claim_was_whole(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / f".{CLAIM}.0.unfinished").write_text("{")
    assert encode(synthetic("train", 1, TINY), tmp_path / "out", SPEC)
    assert _names(tmp_path / "out") == [CARD, INDEX, FILES[0]]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    with locked(tmp_path / "out.partial") as ours:
        assert ours
        with pytest.raises(BadInput, match=r"partial: another process encodes there; wait for it"):
            encode(synthetic("train", 1, TINY), tmp_path / "out", SPEC)
    assert encode(synthetic("train", 1, TINY), tmp_path / "out", SPEC)


def test_a_place_that_is_taken_in_the_meantime(tmp_path: Path, watched: Watched) -> None:
    def take(read: int) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "todo.txt").write_text("mine")

    with pytest.raises(BadInput, match=r"out: .*; move it away, and the same command uses .*partial"):
        encode(watched(synthetic("train", 1, TINY), take), tmp_path / "out", SPEC)
    (tmp_path / "out" / "todo.txt").unlink()
    assert not encode(synthetic("train", 1, TINY), tmp_path / "out", SPEC)
    assert _names(tmp_path) == ["out"]


def test_bad_sequences_are_left_out_and_named(tmp_path: Path) -> None:
    good = synthetic("train", 5, TINY)
    sequences = [_broken(one) if number in (1, 4) else one for number, one in enumerate(good)]
    with pytest.raises(BadInput, match=r"train-00001 .*, frame 00002: not a readable image"):
        encode(sequences, tmp_path / "out", SPEC)
    assert _names(tmp_path / "out.partial") == ["_encoding.json", "_part-00000.parquet", FILES[0]]
    assert encode(sequences, tmp_path / "out", SPEC, skip_bad=True)
    dataset = open_dataset(tmp_path / "out")
    assert [one.name for one in dataset.sequences] == [f"train-{number:05d}" for number in (0, 2, 3)]
    assert dataset.spec == SPEC | {"skipped": ["synthetic/train-00001", "synthetic/train-00004"]}
    report = (tmp_path / "out" / SKIPPED).read_text().splitlines()
    assert [line.split("\t")[0] for line in report] == dataset.spec["skipped"]
    assert "not a readable image" in report[1]
    assert "| skipped | 2 sequences" in (tmp_path / "out" / CARD).read_text()
    assert not encode(sequences, tmp_path / "out", SPEC, skip_bad=True)
    with pytest.raises(BadInput, match=r"differs in skipped \(\['synthetic/train-00001', .* there, nothing now\)"):
        encode(sequences, tmp_path / "out", SPEC)


def test_a_part_keeps_what_is_good_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_FRAMES", 99)
    monkeypatch.setattr(parts, "LEAST_FRAMES", 99)
    good = synthetic("train", 3, TINY)
    encode([good[0], _broken(good[1]), good[2]], tmp_path / "out", SPEC, skip_bad=True)
    encode([good[0], good[2]], tmp_path / "same", SPEC)
    assert (tmp_path / "out" / FILES[0]).read_bytes() == (tmp_path / "same" / FILES[0]).read_bytes()
    assert open_dataset(tmp_path / "out").hash == open_dataset(tmp_path / "same").hash


def test_a_part_that_leaves_something_out_is_not_whole_for_who_wants_all(tmp_path: Path, watched: Watched) -> None:
    good = synthetic("train", 3, TINY)
    # The first one is read twice, to know all that is bad in its part.
    sequences = watched([_broken(good[0]), *good[1:]], _stop_at(11, RuntimeError))
    with pytest.raises(RuntimeError):
        encode(sequences, tmp_path / "out", SPEC, skip_bad=True)
    assert _names(tmp_path / "out.partial")[1:3] == ["_part-00000.parquet", "_part-00001.parquet"]
    assert encode(good, tmp_path / "out", SPEC)  # the file is repaired
    assert len(open_dataset(tmp_path / "out").sequences) == 3


def test_nothing_that_can_be_encoded(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no sequence can be encoded, .* because of .*train-00000 .*, frame 00002"):
        encode([_broken(one) for one in synthetic("train", 2, TINY)], tmp_path / "out", SPEC, skip_bad=True)
    assert not (tmp_path / "out").exists()


def test_parts_depend_on_the_numbers_of_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (one,) = synthetic("train", 1, SyntheticSettings(size=32, frames=2))
    lengths = [1, 5, 3000, 2, 1022, 1, 500] + [8] * 9000
    ordered = [replace(one, name=f"{i:05d}", frame_names=("f",) * length) for i, length in enumerate(lengths)]
    found = cut(ordered)
    assert [one for part in found for one in part.sequences] == ordered
    assert [part.frames for part in found][:3] == [6, 3000, 1024]
    assert all(part.frames <= 1024 or len(part.sequences) == 1 for part in found)
    assert [part.frames for part in cut(ordered[-80:])] == [64] * 10


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or not Path("/dev/shm").is_dir(), reason="needs a mount")
def test_a_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(BadInput, match=r"small/out.partial/[^:]*: .*No space left on device.*space that is left$"):
            encode(synthetic("train", 30, TINY), small / "out", SPEC)
        assert not (small / "out").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_no_more_than_a_file_may_have(tmp_path: Path) -> None:
    """Stands for a full disk where nothing can be mounted."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom eosvos.data.parquet import encode\n"
        "from eosvos.data.readers.synthetic import SyntheticSettings, synthetic\n"
        "sequences = synthetic('train', 9, SyntheticSettings(size=32, frames=3))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "encode(sequences, Path(sys.argv[1]), {})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, check=False)
    assert b"BadInput: " in done.stderr.splitlines()[-1]
    assert b"data-00000.parquet: " in done.stderr.splitlines()[-1]
    assert _names(tmp_path) == []


def test_a_target_that_cannot_be_written_to() -> None:
    with pytest.raises(BadInput, match=r"/proc/out.partial: .*; check the address, the access"):
        encode(synthetic("train", 1, TINY), Path("/proc/out"), SPEC)
