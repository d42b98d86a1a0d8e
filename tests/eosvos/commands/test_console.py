"""The console command: its commands are those of jobs/; what is asked wrongly is one line."""

import sys
import tomllib
from pathlib import Path

import pytest

import eosvos
from eosvos.commands import COMMANDS, main


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["eosvos", *arguments])
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert _run(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: eosvos {segment,score} [options]\n")
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"eosvos {eosvos.__version__}\n"


NEEDED = {
    "segment": "--video PATH --mask PATH [--quality NAME] [options]",
    "score": "--ground-truth PATH --predictions PATH --layout {davis2016,davis2017,youtube-vos,frames} [options]",
}


@pytest.mark.parametrize("name", NEEDED)
def test_help_of_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert _run(monkeypatch, name, "--help") == 0
    assert capsys.readouterr().out.splitlines()[0] == f"usage: eosvos {name} {NEEDED[name]}"


def test_bad_input_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "train") == 2
    assert capsys.readouterr().err == "error: train: no such command; choose one of segment, score\n"
    assert _run(monkeypatch, "segment", "--mask", "a.png") == 2
    assert capsys.readouterr().err == "error: --video: missing, but needed; --help lists all flags\n"


def test_it_is_installed() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"eosvos": f"{main.__module__}:{main.__name__}"}
