"""What every command shares: presets, a configuration file, flags, and exit codes."""

import argparse
import contextlib
import dataclasses
import errno
import io
import itertools
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from eosvos.config import merged, read_json
from eosvos.errors import BadInput, PartsFailed

Config = TypeVar("Config")


def parse(kind: type[Config], description: str, arguments: Sequence[str] | None = None) -> Config:
    """Command line -> configuration: ``--config FILE``, then flags over it.

    Args:
        kind: a frozen dataclass; every field, and every field of its dataclasses, is a flag, with the text behind it
            as help.
        description: shown by ``--help``, with examples.
        arguments: instead of ``sys.argv[1:]``.

    Raises:
        BadInput: a configuration file that cannot be read or names unknown fields, flags that do not parse, or a value
            out of range.
        SystemExit: ``--help`` (0).
    """
    return _parse(kind, {}, description, arguments, "")[0]


def parse_preset(
    kind: type[Config],
    presets: Mapping[str, Config],
    description: str,
    arguments: Sequence[str] | None = None,
    flag: str = "--preset",
) -> tuple[Config, str]:
    """As ``parse``, with ``--preset NAME`` under the file and the flags.

    Args:
        presets: named configurations; the first one is the default.
        flag: instead of ``--preset``.

    Returns:
        the configuration and the preset's name.

    Raises:
        BadInput: as ``parse``, and an unknown preset.
    """
    return _parse(kind, presets, description, arguments, flag)


def _parse(
    kind: type[Config], presets: Mapping[str, Config], description: str, arguments: Sequence[str] | None, flag: str
) -> tuple[Config, str]:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config", type=Path)
    if presets:
        first.add_argument(flag, dest="preset", default=next(iter(presets)))
        description += f"\n\n{flag} NAME: {', '.join(presets)}; the first is the default."
    description += "\n\n--config FILE: JSON with any of the fields below, such as a run's config.json."
    try:
        known, rest = first.parse_known_args(sys.argv[1:] if arguments is None else list(arguments))
    except argparse.ArgumentError as error:
        raise BadInput(str(error)) from error
    preset = known.preset if presets else ""
    if presets and preset not in presets:
        raise BadInput(f"{flag} {preset}: no such preset; choose one of {', '.join(presets)}")
    default = presets[preset] if presets else _without_default(kind)
    if known.config is not None:
        default = merged(kind, default, read_json(known.config), str(known.config))
    printed, refused = (io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding) for _ in range(2))
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(refused):
            style = (tyro.conf.OmitArgPrefixes,)
            return tyro.cli(kind, args=rest, description=description, config=style, default=default), preset
    except SystemExit as left:
        if left.code == 0:
            print(_with_usage(_content(printed), default, f"[{flag} NAME] " if presets else ""), end="")
            raise
        raise BadInput(f"{_first_of_box(_content(refused))}; --help lists all flags") from None


def _without_default(kind: type[Config]) -> Config:
    """All defaults, with ``tyro.MISSING`` in the fields that have none."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    needed = [one for one in fields if one.default is one.default_factory is dataclasses.MISSING]
    return kind(**{one.name: tyro.MISSING for one in needed})


def _with_usage(text: str, default: Any, preset: str) -> str:
    """The text of ``--help`` with the common case in its first line: what is needed, then the preset, then the rest."""
    if not text.startswith("usage: "):
        return text  # a completion for the shell
    needed = [one.name for one in dataclasses.fields(default) if getattr(default, one.name) is tyro.MISSING]
    shown = [re.findall(rf"(?m)^\W*(--{name.replace('_', '-')} \S+)", text)[-1] for name in needed]
    program = f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else sys.argv[0]
    common = "".join(f"{flag} " for flag in shown)
    return f"usage: {program} {common}{preset}[options]\n" + text.partition("\n")[2]


def _content(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _first_of_box(box: str) -> str:
    """tyro's message in one line: of its box, with frames or dashes, the text below the title up to the next rule."""
    lines = [line.strip("│| ") for line in box.splitlines()[1:]]
    blocks = itertools.groupby(lines, lambda line: bool(line.strip("─-+")))
    text = " ".join(next((block for is_text, block in blocks if is_text), ()))
    if text.startswith("Missing from "):
        return f"{', '.join(re.findall(r'--[a-z-]+', text))}: missing, but needed"
    return re.sub(r"^Error parsing \w+: ", "", text)


def run(command: Callable[[], None], resumes: bool = True) -> None:
    """Run a command and exit: 0 done, 1 failed while working, 2 bad input (one line).

    What failed is said with the traceback, parts that failed in one line. Messages of the loggers ``eosvos`` and
    ``cluster``, from ``INFO`` up, are printed as they are.

    Args:
        command: what to run.
        resumes: the same command again goes on where this one was interrupted; said where that happens.
    """
    try:
        with _messages_printed():
            command()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except PartsFailed as error:
        print(f"error: {error}" + (". The same command again tries them again" if resumes else ""), file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            print(f"error: {error.filename or 'a file'}: no space left to write it; make room", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted" + ("; the same command again resumes" if resumes else ""), file=sys.stderr)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


class _Printed(logging.Handler):
    """Prints messages to what is ``sys.stdout`` at that moment, which a progress bar or a test may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


@contextlib.contextmanager
def _messages_printed() -> Iterator[None]:
    """For the loggers of this project; afterwards they are as they were."""
    loggers = [logging.getLogger(name) for name in ("eosvos", "cluster")]
    before = [(logger.level, logger.propagate, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.propagate = False  # MLflow gives the root a handler, which would say all of it again
        logger.handlers = [_Printed()]
    try:
        yield
    finally:
        for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate, logger.handlers = propagate, handlers
