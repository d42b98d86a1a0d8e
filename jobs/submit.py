"""Write, or check, the zip of masks that a benchmark's server takes: `--help` has examples."""

import logging
from dataclasses import dataclass
from pathlib import Path

from eosvos.cli import parse, run
from eosvos.errors import BadInput
from eosvos.paths import absolute_address, absolute_path

log = logging.getLogger("eosvos.submit")

DESCRIPTION = """Write the zip that the server of DAVIS 2017 (test-dev) or of YouTube-VOS takes, or check one.

Palette PNGs of the frames that are asked for, named as they are: SEQUENCE/FRAME.png for DAVIS,
Annotations/VIDEO/FRAME.png for YouTube-VOS. Nothing is written unless all of it is there and right.

Examples:
    python jobs/submit.py --data runs/data/test-dev --predictions runs/evaluate/E/predictions/T=50 --out test-dev.zip
    python jobs/submit.py --data runs/data/valid_all_frames --meta YouTube-VOS/valid/meta.json \\
        --predictions runs/evaluate/E/predictions/T=50 --out valid.zip
    python jobs/submit.py --data runs/data/test-dev --check test-dev.zip
"""


@dataclass(frozen=True)
class Submit:
    """What to write, or to check."""

    data: str
    """Encoded dataset of the split, on which the predictions were made."""
    meta: Path | None = None
    """YouTube-VOS: meta.json of the split, which names the frames that are asked for."""
    predictions: Path | None = None
    """Folder with a folder of masks for each sequence, such as predictions/T=50 of an evaluation."""
    out: Path | None = None
    """The zip to write; goes with --predictions."""
    check: Path | None = None
    """A zip to check instead."""

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix != ".zip":
            raise ValueError(f"out: must end in .zip, got {self.out}")


def main() -> None:
    submit = parse(Submit, DESCRIPTION)
    if (submit.predictions is None) != (submit.out is None) or (submit.out is None) == (submit.check is None):
        raise BadInput("give either --predictions and --out, or --check")
    # Late, so that --help is quick.
    from eosvos.data.parquet import open_dataset
    from eosvos.evaluation.submission import asked_for, problems, write_submission

    meta = None if submit.meta is None else absolute_path(submit.meta, "--meta")
    asked = asked_for(open_dataset(absolute_address(submit.data, "--data")), meta)
    frames = sum(len(one.frames) for one in asked.values())
    if submit.predictions is not None and submit.out is not None:
        out = absolute_path(submit.out, "--out")
        write_submission(asked, absolute_path(submit.predictions, "--predictions"), out)
        log.info(f"{out}: {frames} masks of {len(asked)} sequences")
    elif submit.check is not None:
        file = absolute_path(submit.check, "--check")
        found = problems(asked, file)
        for line in found:
            log.info(line)
        if found:
            raise BadInput(f"{file}: not what is asked for, as said above; write it again with --predictions")
        log.info(f"{file}: {frames} masks of {len(asked)} sequences, all as asked for")


if __name__ == "__main__":
    run(main, resumes=False)
