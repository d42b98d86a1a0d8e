"""Score masks on disk against ground truth on disk: J, F and J&F. The same as ``eosvos score``."""

from eosvos.cli import run
from eosvos.commands.score import main

if __name__ == "__main__":
    run(main)
