"""The console command ``eosvos``: segmenting and scoring, which need neither Ray nor MLflow."""

import sys
from importlib import import_module

from eosvos import __version__
from eosvos.cli import run
from eosvos.errors import BadInput

COMMANDS = {
    "segment": "segment a video: the mask of its first frame in, a mask for every frame out",
    "score": "score masks on disk against ground truth on disk: J, F and J&F",
}
USAGE = "\n".join(
    (
        "usage: eosvos {" + ",".join(COMMANDS) + "} [options]",
        "",
        "Meta-learned one-shot video object segmentation. eosvos COMMAND --help lists a command's options.",
        "",
        *(f"  {name:8} {what}" for name, what in COMMANDS.items()),
        "  --version",
    )
)


def main() -> None:
    """Runs the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(USAGE)
    elif name == "--version":
        print(f"eosvos {__version__}")
    else:
        sys.argv = [f"eosvos {name}", *sys.argv[2:]]
        run(lambda: _run(name), resumes=False)


def _run(name: str) -> None:
    if name not in COMMANDS:
        raise BadInput(f"{name}: no such command; choose one of {', '.join(COMMANDS)}")
    import_module(f"eosvos.commands.{name}").main()
