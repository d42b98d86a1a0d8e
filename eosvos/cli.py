"""What every command shares: presets, a configuration file, flags, and exit codes."""

import argparse
import contextlib
import dataclasses
import errno
import io
import itertools
import json
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

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


def take_switch(name: str, arguments: Sequence[str] | None = None) -> tuple[bool, list[str]]:
    """Whether the flag ``name``, which takes no value, is among the arguments; and all others, for ``parse``."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return name in given, [argument for argument in given if argument != name]


def take_values(name: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """All values of the flag ``name``, which takes one or several; and all other arguments, for ``parse``.

    Raises:
        BadInput: the flag without a value.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(name, dest="values", nargs="+", action="extend", default=[])
    try:
        known, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise BadInput(str(error)) from error
    return known.values, rest


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
    default = presets.get(preset)
    if known.config is not None:
        default = merged(kind, default, read_json(known.config), str(known.config))
    style = (tyro.conf.FlagConversionOff, tyro.conf.OmitArgPrefixes)
    given: dict[str, Any] = {} if default is None else {"default": default}
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(kind, args=rest, description=description, config=style, **given), preset
    except SystemExit as left:
        if left.code == 0:
            raise
        raise BadInput(f"{_first_of_box(shown.getvalue())}; --help lists all flags") from None


def _first_of_box(box: str) -> str:
    """tyro's message in one line: of its box, with frames or dashes, the text below the title up to the next rule."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    blocks = itertools.groupby(lines, lambda line: bool(line.strip("─-")))
    return " ".join(next((block for is_text, block in blocks if is_text), ()))


def check_different(name: str, values: Sequence[float], *, positive: bool = False) -> None:
    """For ``__post_init__`` of a command: a list of different values, not empty.

    Args:
        name: of the field.
        values: its value.
        positive: 0 is refused as well as what is below it.

    Raises:
        ValueError: they are not.
    """
    fit = all(value > 0 if positive else value >= 0 for value in values)
    if not values or not fit or len(set(values)) < len(values):
        raise ValueError(f"{name}: needs different values {'above 0' if positive else 'of at least 0'}, got {values}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises BadInput naming the file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path}: holds no JSON object")
    return content


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready values (paths as text, tuples as lists)."""
    result: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return result


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def merged(kind: type[Config], base: Config | None, changes: Mapping[str, Any], source: str) -> Config:
    """``base`` with the (nested) fields of ``changes`` in place of its own; without ``base``, over the defaults.

    Raises:
        BadInput: a field that ``kind`` does not have, or a value that it refuses.
    """
    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in types:
            raise BadInput(f"{source}: unknown field {key!r}; known are {', '.join(types)}")
        declared = types[key]
        if isinstance(declared, type) and dataclasses.is_dataclass(declared) and isinstance(value, dict):
            values[key] = merged(declared, getattr(base, key, None), value, source)
            continue
        if isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, str) and "Path" in str(declared):
            value = Path(value)
        elif value is not None and "tuple" in str(declared):
            value = (value,)  # one where there may be several: a file can serve several commands
        try:
            values[key] = check_type(value, declared, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError:
            raise BadInput(
                f"{source}: {key}: cannot be {json.dumps(changes[key])}; it takes {_type_name(declared)}"
            ) from None
    try:
        return dataclasses.replace(base, **values) if base is not None else kind(**values)  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise BadInput(f"{source}: {error}") from error


def _type_name(declared: Any) -> str:
    """A field's type as a person reads it: ``one of two, one``, ``int``."""
    if typing.get_origin(declared) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(declared)))}"
    return declared.__name__ if isinstance(declared, type) and not typing.get_args(declared) else str(declared)


def run(command: Callable[[], None], resumes: bool = True) -> None:
    """Run a command and exit: 0 done, 1 failed while working, 2 bad input (one line).

    What failed is said with the traceback, parts that failed in one line.

    Args:
        command: what to run.
        resumes: the same command again goes on where this one was interrupted; said where that happens.
    """
    try:
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
