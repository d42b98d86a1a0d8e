"""Configurations are frozen dataclasses: as dictionaries, from files, flat, and one merged over another."""

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from eosvos.errors import BadInput

Config = TypeVar("Config")

OLDER = "older"
"""Key in a field's metadata: its value in what was written before the field was there, where the default is not."""


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


def older(kind: type) -> dict[str, Any]:
    """What a configuration that was written before some fields of ``kind`` were there says by its silence, nested."""
    values = {field.name: field.metadata[OLDER] for field in dataclasses.fields(kind) if OLDER in field.metadata}
    for name, declared in typing.get_type_hints(kind).items():
        if _is_config(declared) and (inner := older(declared)):
            values[name] = inner
    return values


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def merged(kind: type[Config], base: Config | None, changes: Mapping[str, Any], source: str) -> Config:
    """``base`` with the fields of ``changes`` in place of its own; without ``base``, over the defaults.

    Args:
        kind: a dataclass.
        base: what fields have that are not named.
        changes: nested as the configuration is, or flat: a field of an inner dataclass by its own name alone.
        source: of the changes, for messages.

    Raises:
        BadInput: a field that ``kind`` does not have, or a value that it refuses.
    """
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type  # late: half of a command's start

    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    changes = _nested(kind, changes, source)
    for key, value in changes.items():
        declared = types[key]
        if _is_config(declared) and isinstance(value, dict):
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


def _nested(kind: type, changes: Mapping[str, Any], source: str) -> dict[str, Any]:
    """``changes`` with every field of an inner dataclass, given by its name alone, where it belongs."""
    known = typing.get_type_hints(kind)
    nested = {key: value for key, value in changes.items() if key in known}
    for key in changes.keys() - known.keys():
        places = _places(kind, key.replace("-", "_"))
        if not places:
            raise BadInput(f"{source}: unknown field {key!r}; known are {', '.join(known)}")
        if len(places) > 1:
            several = " and ".join(".".join((*place, key)) for place in places)
            raise BadInput(f"{source}: {key!r} can be {several}; give the outer one")
        (place,) = places
        field = key.replace("-", "_")
        inner: dict[str, Any] = {field: changes[key]}
        for outer in reversed(place):
            inner = {outer: inner}
        nested = _joined(nested, inner, source)
    return nested


def _places(kind: type, field: str, around: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Names of the dataclasses around each field of this name, from outside in; not those that no flag sets."""
    found = [around] if field in typing.get_type_hints(kind) else []
    for name, declared in typing.get_type_hints(kind, include_extras=True).items():
        bare, *notes = typing.get_args(declared) if hasattr(declared, "__metadata__") else (declared,)
        if _is_config(bare) and not any(repr(note) == "Suppress" for note in notes):
            found += _places(bare, field, (*around, name))
    return found


def _joined(first: Mapping[str, Any], second: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Both as one. Raises BadInput for a field that is in both."""
    result = dict(first)
    for key, value in second.items():
        if key not in result:
            result[key] = value
        elif isinstance(result[key], dict) and isinstance(value, dict):
            result[key] = _joined(result[key], value, source)
        else:
            raise BadInput(f"{source}: {key}: is given twice; leave one out")
    return result


def _is_config(declared: Any) -> bool:
    return isinstance(declared, type) and dataclasses.is_dataclass(declared)


def _type_name(declared: Any) -> str:
    """A field's type as a person reads it: ``one of two, one``, ``int``."""
    if typing.get_origin(declared) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(declared)))}"
    return declared.__name__ if isinstance(declared, type) and not typing.get_args(declared) else str(declared)
