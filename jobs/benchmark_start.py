"""Measure how long ``--help`` of each command takes, beside Python alone and an import of NumPy."""

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from eosvos.cli import parse, run

DESCRIPTION = """Seconds that --help of each command takes, and beside it `python -c pass` and `import numpy`.

Example:
    python jobs/benchmark_start.py --repetitions 10
"""
JOBS = Path(__file__).parent
REFERENCES = {"python -c pass": ("-c", "pass"), "import numpy": ("-c", "import numpy")}


@dataclass(frozen=True)
class BenchmarkStart:
    """How to measure."""

    repetitions: int = 5
    """Measurements of each, in turns; medians are shown."""

    def __post_init__(self) -> None:
        if self.repetitions < 1:
            raise ValueError(f"repetitions: must be at least 1, got {self.repetitions}")


def main() -> None:
    benchmark = parse(BenchmarkStart, DESCRIPTION)
    # Late, so that --help is quick.
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    cases = REFERENCES | {f"{job.stem} --help": (str(job), "--help") for job in sorted(JOBS.glob("*.py"))}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for repetition in track(range(-1, benchmark.repetitions), description="all, in turns", transient=True):
        for name, arguments in cases.items():
            seconds = _seconds(arguments)
            if repetition >= 0:  # the first turn brings the files into memory
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table(title=f"median of {benchmark.repetitions}, Python {sys.version.split()[0]}")
    table.add_column("what")
    for heading in ("seconds", "most", "less python -c pass"):
        table.add_column(heading, justify="right")
    for name, median in medians.items():
        beyond = median - medians["python -c pass"]
        table.add_row(name, f"{median:.2f}", f"{max(times[name]):.2f}", f"{beyond:.2f}")
    Console(soft_wrap=True).print(table)


def _seconds(arguments: tuple[str, ...]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    run(main)
