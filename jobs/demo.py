"""The whole system in one go, on synthetic video: encode, parent, meta-training, evaluation, a table, a picture."""

from dataclasses import dataclass
from pathlib import Path

from eosvos.cli import parse, run
from eosvos.paths import absolute_path

DESCRIPTION = """Meta-training on synthetic video, from nothing to a table. The same command again goes on where it was.

Examples:
    make demo
    make demo FAIR=1      # beside it the best of five to seven parents that each trained as long as both: about an hour
"""


@dataclass(frozen=True)
class Demo:
    """Where the demo works."""

    out: Path = Path("runs/demo")
    """Folder of its data, runs and results."""
    fair: bool = False
    """Add the fair comparison: five to seven trainings of a parent, each as long as parent and meta-training together,
    about an hour on two cores."""
    package: Path | None = None
    """Also write the meta-learned checkpoint to this file in half precision: how the one in this package is made."""


def main() -> None:
    command = parse(Demo, DESCRIPTION)
    # Late, so that --help is quick.
    from cluster.experiments.demo import demo
    from eosvos.learning.optimization import load, save

    checkpoint = demo(absolute_path(command.out, "--out"), command.fair)
    if command.package is not None:
        save(load(checkpoint), command.package, half=True)


if __name__ == "__main__":
    run(main)
