"""A run's folder: its configuration, so that the same command resumes and another one is refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eosvos.config import flattened, older, read_json, to_dict
from eosvos.errors import BadInput
from eosvos.files import locked, make_folder, unfinished, write_whole

CONFIG_FILE = "config.json"


def check(folder: Path, config: Any, free: tuple[str, ...] = ()) -> None:
    """Finds out whether ``folder`` can be the run folder of ``config``: its own already, or empty, or not there.

    Args:
        folder: of the run.
        config: a frozen dataclass.
        free: dotted names of fields that may differ when a run is resumed, such as ``workers``.

    Raises:
        BadInput: the folder holds a run of another configuration (the fields that differ are named), or other files.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        # A field that is newer than the run has its default there, which changes nothing, or says what it was before;
        # not where all of its part is newer, which was not there to be in any way.
        after = flattened(to_dict(config))
        written = _moved(flattened(read_json(path)), after)
        parts = {_part(name) for name in written}
        unsaid = {name: value for name, value in flattened(older(type(config))).items() if _part(name) in parts}
        before = flattened(to_dict(type(config)())) | unsaid | written
        different = [
            f"{name} ({before.get(name)} there, {after.get(name)} now)"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
            and name not in free
            and (name in after or before[name])  # an option that is gone changes nothing where it was off
        ]
        if different:
            raise BadInput(
                f"{folder}: holds a run that differs in {', '.join(different)}; give another --out or remove the folder"
            )
    elif folder.exists() and (not folder.is_dir() or any(other != unfinished(path) for other in folder.iterdir())):
        raise BadInput(f"{folder}: exists and is no run's folder; give another --out")


def _part(name: str) -> str:
    """``model`` of ``model.widths``."""
    return name.rpartition(".")[0]


def _moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """``before`` as it is said in ``after``: a field that stands elsewhere there, one that takes several values now.

    Their flags are the same.
    """
    places = {name.rpartition(".")[2]: name for name in after}
    moved = {name if name in after else places.get(name.rpartition(".")[2], name): before[name] for name in before}
    several = {name for name, value in after.items() if isinstance(value, list)}
    return {name: [value] if name in several and isinstance(value, str) else value for name, value in moved.items()}


@contextmanager
def claimed(folder: Path, config: Any, free: tuple[str, ...] = ()) -> Iterator[None]:
    """Makes ``folder`` the run folder of ``config`` and keeps other processes out while one works there.

    The lock ends with the process, however it dies. Arguments as of ``check``, which commands call before their work,
    too; here it is made sure that no other run has taken the folder since.

    Raises:
        BadInput: another one is at work there, or has been; or the folder cannot be made.
    """
    make_folder(folder)
    with locked(folder) as ours:
        if ours is False:
            raise BadInput(f"{folder}: another run is at work there; wait for it, or give another --out")
        check(folder, config, free)
        claim(folder, config)
        yield


def claim(folder: Path, config: Any) -> None:
    """Makes ``folder`` the run folder of ``config``, whose ``check`` went well; the caller has it alone."""
    make_folder(folder)
    write_whole(folder / CONFIG_FILE, (json.dumps(to_dict(config), indent=2) + "\n").encode())
