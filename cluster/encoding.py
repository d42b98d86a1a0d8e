"""Encoding and verifying datasets on a cluster: a Ray task for each part, some sequences together.

No image or mask goes through the driver: tasks read the sources and write the files themselves.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import ray

from cluster.fan_out import FanOut
from cluster.progress_bar import progress_bar
from cluster.session import connect, total
from eosvos.data.parquet.parts import encode_part
from eosvos.data.parquet.verifying import Check, checks
from eosvos.data.parquet.writing import begun
from eosvos.data.sequence import Sequence

IN_FLIGHT = 2
"""Tasks that are with Ray at once, for each that can run."""


def encode(sequences: Iterable[Sequence], out: str, spec: Mapping[str, Any], skip_bad: bool = False) -> bool:
    """As ``eosvos.data.parquet.encode``, which writes the same files, with a progress bar.

    Raises:
        BadInput: as that; or no cluster answers. The parts that are whole are kept for the same command again.
    """
    with begun(sequences, out, spec, skip_bad=skip_bad) as encoding:
        if encoding is None:
            return False
        connect()
        missing = encoding.missing()
        task = ray.remote(max_retries=0)(encode_part)
        tasks: FanOut[int, None] = FanOut(
            lambda place: task.remote(missing[place], encoding.place, encoding.file_bytes, skip_bad),
            range(len(missing)),
            _at_once(),
            describe=lambda place: missing[place].file,
        )
        done = encoding.frames - sum(part.frames for part in missing)
        try:
            with progress_bar("encoding", encoding.frames, done) as advance:
                for ended in tasks:
                    if ended.error is not None:
                        raise ended.error
                    advance(missing[ended.item].frames)
        finally:
            tasks.stop()
        encoding.finish()
    return True


def verify(uri: str) -> list[str]:
    """As ``eosvos.data.parquet.verifying.verify``, with a progress bar.

    Raises:
        BadInput: as that; or no cluster answers.
    """
    work = checks(uri)
    connect()
    task = ray.remote(max_retries=0)(_run)
    tasks: FanOut[int, list[str]] = FanOut(lambda place: task.remote(work[place]), range(len(work)), _at_once())
    faults: dict[int, list[str]] = {}
    with progress_bar("verifying", len(work)) as advance:
        for ended in tasks:
            faults[ended.item] = ended.result
            advance(1)
    return [fault for place in sorted(faults) for fault in faults[place]]


def _run(check: Check) -> list[str]:
    return check()


def _at_once() -> int:
    return max(int(total("CPU")), 1) * IN_FLIGHT
