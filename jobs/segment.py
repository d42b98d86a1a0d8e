"""Segment a video: the mask of its first frame in, a mask for every frame out. The same as ``eosvos segment``."""

from eosvos.cli import run
from eosvos.commands.segment import main

if __name__ == "__main__":
    run(main, resumes=False)
