"""What every command shares: precedence of preset, file and flags; exit codes; one line for bad input."""

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

from eosvos.cli import parse, parse_preset, run
from eosvos.config import flattened, merged, read_json, to_dict
from eosvos.errors import BadInput, PartsFailed


@dataclass(frozen=True)
class Inner:
    size: int = 3
    """A size."""
    widths: tuple[int, ...] = (1, 2)
    kind: Literal["plain", "fancy"] = "plain"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size: must be at least 1, got {self.size}")


@dataclass(frozen=True)
class Command:
    name: str = "none"
    out: Path | None = None
    gpu: bool = False
    rate: float = 0.5
    T: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 5
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate: must be above 0, got {self.rate}")


PRESETS = {"small": Command(name="small", inner=Inner(size=10, widths=(7,))), "large": Command(name="large", T=9)}


@pytest.fixture
def config(tmp_path: Path) -> Callable[[Any], str]:
    def write(content: Any) -> str:
        path = tmp_path / "config.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def _parsed(*arguments: str) -> tuple[Command, str]:
    return parse_preset(Command, PRESETS, "Does things.", arguments)


def test_flags_over_file_over_preset(config: Callable[[Any], str]) -> None:
    file = config({"T": 20, "rate": 0.25, "inner": {"size": 20}})
    assert _parsed() == (PRESETS["small"], "small")  # the first is the default
    assert _parsed("--preset", "large") == (PRESETS["large"], "large")
    command, preset = _parsed("--T", "30", "--preset", "small", "--config", file)
    assert preset == "small"
    assert (command.name, command.inner.widths) == ("small", (7,))  # from the preset, beside a field of the file
    assert (command.rate, command.inner.size) == (0.25, 20)  # from the file
    assert command.T == 30  # from the flags
    assert _parsed("--config", file, "--size", "40")[0].inner == Inner(size=40, widths=(7,))
    assert _parsed("--preset=large", f"--config={file}")[0].T == 20


def test_without_presets(config: Callable[[Any], str]) -> None:
    assert parse(Command, "Does things.", []) == Command()
    assert parse(Command, "Does things.", ["--config", config({"T": 2}), "--name", "a"]) == Command(name="a", T=2)


def test_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["-T", "0", "--out", "a/b", "--gpu", "--widths", "4", "5", "--kind", "fancy"]
    expected = Command(name="small", T=0, out=Path("a/b"), gpu=True, inner=Inner(10, (4, 5), "fancy"))
    assert _parsed(*given)[0] == expected
    monkeypatch.setattr("sys.argv", ["command.py", *given])
    assert parse_preset(Command, PRESETS, "Does things.")[0] == expected


def test_a_runs_own_configuration_gives_the_same_run(config: Callable[[Any], str]) -> None:
    command = Command(name="x", out=Path("a/b"), gpu=True, T=7, inner=Inner(2, (3, 4), "fancy"))
    assert _parsed("--preset", "large", "--config", config(to_dict(command)))[0] == command
    assert to_dict(command)["out"] == "a/b"
    assert flattened(to_dict(command))["inner.widths"] == [3, 4]
    assert merged(Command, None, {}, "here") == Command()


BAD_FILES: dict[str, Any] = {
    "unknown field 'steps'; known are name, out, gpu, rate, T, inner": {"steps": 3},
    "unknown field 'depth'; known are size, widths, kind": {"inner": {"depth": 3}},
    "rate: must be above 0, got -1": {"rate": -1},
    "size: must be at least 1, got 0": {"inner": {"size": 0}},
    'kind: cannot be "Fancy"; it takes one of ': {"inner": {"kind": "Fancy"}},
    'gpu: cannot be "False"; it takes bool': {"gpu": "False"},
    "T: cannot be null; it takes int": {"T": None},
    "out: cannot be 5; it takes ": {"out": 5},
    'widths: cannot be [4, "8"]; it takes ': {"inner": {"widths": [4, "8"]}},
    "inner: cannot be null; it takes Inner": {"inner": None},
    "not a readable JSON file": "{'T': 3",
    "holds no JSON object": [1, 2],
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_files_that_cannot_be_used_are_named(config: Callable[[Any], str], message: str) -> None:
    path = config(BAD_FILES[message])
    with pytest.raises(BadInput) as raised:
        _parsed("--config", path)
    assert str(raised.value).startswith(f"{path}: {message}")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing\.json: not a readable JSON file"):
        read_json(tmp_path / "missing.json")


def test_unknown_preset() -> None:
    with pytest.raises(BadInput, match=r"^--preset huge: no such preset; choose one of small, large$"):
        _parsed("--preset", "huge")


BAD_FLAGS = {
    "--rate 0": "rate: must be above 0, got 0.0",
    "--size -2": "size: must be at least 1, got -2",
    "--steps 3": "Unrecognized options: --steps",
    "--kind odd": "--kind",
    "--T many": "'many'",
    "--T": "Missing value for argument '-T/--T'",
    "--preset": "argument --preset: expected one argument",
}


@pytest.mark.parametrize("given", BAD_FLAGS)
def test_flags_that_cannot_be_used_are_one_line(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput) as raised:
        _parsed(*given.split())
    assert BAD_FLAGS[given] in str(raised.value)
    assert str(raised.value).isascii()  # nothing of the box around it
    assert "\n" not in str(raised.value)
    assert capsys.readouterr() == ("", "")


def test_help_names_presets_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        _parsed("--help")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for text in ("Does things.", "--preset NAME: small, large", "--config FILE", "--size", "A size.", "-T"):
        assert text in shown


def _left(command: Callable[[], None]) -> int:
    with pytest.raises(SystemExit) as left:
        run(command)
    assert isinstance(left.value.code, int)
    return left.value.code


def _raises(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []
    run(lambda: done.append(1))
    assert done == [1]
    assert capsys.readouterr().err == ""
    assert _left(_raises(BadInput("a.txt: no such file; name another"))) == 2
    assert capsys.readouterr().err == "error: a.txt: no such file; name another\n"
    assert _left(_raises(FloatingPointError("the loss is nan"))) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("Traceback")
    assert stderr.endswith("FloatingPointError: the loss is nan\n")
    assert _left(_raises(PartsFailed("1 of 2 sequences failed: bear (no luck)"))) == 1
    stderr = capsys.readouterr().err
    assert stderr == "error: 1 of 2 sequences failed: bear (no luck). The same command again tries them again\n"
    assert _left(_raises(KeyboardInterrupt())) == 1
    assert capsys.readouterr().err == "interrupted; the same command again resumes\n"
    assert _left(_raises(SystemExit(2))) == 2
    assert _left(_raises(OSError(errno.ENOSPC, "No space left on device", "a/b"))) == 1
    assert capsys.readouterr().err == "error: a/b: no space left to write it; make room\n"
    assert _left(_raises(PermissionError(errno.EACCES, "Permission denied", "a/b"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_bad_input_found_while_parsing_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _left(lambda: print(_parsed("--rate", "-3"))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "rate: must be above 0, got -3" in err
    assert err.count("\n") == 1


def test_one_value_in_a_file_where_there_may_be_several() -> None:
    assert merged(Inner, None, {"widths": 5}, "a file").widths == (5,)
