"""What this package ships beside its code."""

from collections.abc import Mapping
from pathlib import Path

from eosvos.errors import BadInput

_FOLDER = Path(__file__).parent

CHECKPOINTS: Mapping[str, Path] = {
    "real-small": _FOLDER / "real_small.safetensors",
    "synthetic": _FOLDER / "tiny_synthetic.safetensors",
}
"""By name. real-small: of real video, for research and evaluation alone, as its card says; ``jobs/recipe.py`` makes it.
synthetic: of synthetic video, with the tiny model, for tests, and free of any such limit; ``jobs/demo.py`` makes it."""
DEFAULT = "real-small"
CARD = _FOLDER / "real_small.md"
"""What real-small has seen, what it may be used for, and what it cannot do."""


def checkpoint_file(named: Path | None) -> Path:
    """The file that ``--checkpoint`` means: a path, or the name of one in this package; None: the default one.

    Raises:
        BadInput: a name that a file has, too.
    """
    if named is None:
        return CHECKPOINTS[DEFAULT]
    packaged = CHECKPOINTS.get(str(named))
    if packaged is not None and named.exists():
        raise BadInput(
            f"--checkpoint {named}: is a checkpoint of this package, and a file here; write ./{named} for the file, or "
            "run this from another folder"
        )
    return packaged or named
