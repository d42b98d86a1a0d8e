"""The flags of every command, with their values and defaults, are those of a committed text.

``python tests/jobs/test_flags.py --renew`` writes it anew; the difference is then part of the change that is reviewed.
"""

import re
import runpy
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tyro

import eosvos
from eosvos import cli

JOBS = Path(__file__).parents[2] / "jobs"
FLAGS = Path(__file__).parents[1] / "assets" / "flags.txt"


class _Found(BaseException):
    """What a job parses its arguments with, thrown past its error handling."""


def _parsers(job: str) -> tuple[str, dict[str, list[Any]]]:
    """The flag that names a preset, and per preset the actions of the parser that the job runs."""
    inner = cli._parse

    def given(*arguments: Any, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # nothing else gives tyro's parser
            parser = tyro.extras.get_parser(*arguments, default=options["default"], config=options["config"])
        raise _Found(parser._actions)

    def parse(
        kind: type, presets: Mapping[str, Any], description: str, arguments: Sequence[str] | None, flag: str
    ) -> Any:
        actions = {}
        for preset in presets or [""]:
            try:
                inner(kind, presets, description, [flag, preset] if presets else [], flag)
            except _Found as found:
                (actions[preset],) = found.args
        raise _Found(flag, actions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tyro, "cli", given)
        patch.setattr(cli, "_parse", parse)
        patch.setattr(sys, "argv", [job])
        try:
            runpy.run_path(str(JOBS / f"{job}.py"), run_name="__main__")
        except _Found as found:
            flag, actions = found.args
    return flag, actions


def _flags(actions: list[Any]) -> dict[str, str]:
    """Names and values of each flag -> its default."""
    result = {}
    for action in actions:
        if "--help" in action.option_strings:
            continue
        names = " ".join([*action.option_strings, *([action.metavar] if action.metavar else [])])
        (default,) = re.findall(r"\((default: .*|required)\)\s*$", str(action.help), flags=re.DOTALL)
        result[names] = default.removeprefix("default: ").replace(f"{Path(eosvos.__file__).parent}", "eosvos")
    return result


def flags_of(job: str) -> str:
    """A line for each flag; where presets have other defaults, with them."""
    flag, parsers = _parsers(job)
    flags = {preset: _flags(actions) for preset, actions in parsers.items()}
    lines = [f"python jobs/{job}.py"]
    if list(flags) != [""]:
        lines.append(f"  {flag} {{{','.join(flags)}}}")
    first, *others = flags
    for names, default in flags[first].items():
        lines.append(f"  {names} = {default}".rstrip())
        lines += [f"      {other}: {flags[other][names]}" for other in others if flags[other][names] != default]
    return "\n".join(lines)


def written() -> dict[str, str]:
    """Job -> its flags as they are committed."""
    texts = FLAGS.read_text().rstrip("\n").split("\n\n")
    return {text.split("\n")[0].removeprefix("python jobs/").removesuffix(".py"): text for text in texts}


def jobs() -> list[str]:
    return sorted(path.stem for path in JOBS.glob("*.py"))


@pytest.mark.parametrize("job", jobs())
def test_flags_are_those_that_are_written_down(job: str) -> None:
    assert flags_of(job) == written().get(job), "python tests/jobs/test_flags.py --renew writes them anew"


def test_no_other_command_is_written_down() -> None:
    assert list(written()) == jobs()


if __name__ == "__main__" and sys.argv[1:] == ["--renew"]:
    FLAGS.write_text("\n\n".join(map(flags_of, jobs())) + "\n")
