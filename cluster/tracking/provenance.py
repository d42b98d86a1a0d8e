"""Where a run comes from: code, machine, data, checkpoint; as tags and inputs that MLflow's comparisons show."""

import platform
import subprocess
from pathlib import Path

import ray

from cluster.session import total
from cluster.tracking.run import RUN_FILE

CODE = Path(__file__).parent


def run_tags(data_hash: str, **more: str) -> dict[str, str]:
    """Tags of every run: git commit, hardware, data, and ``more``."""
    return {"git_commit": git_commit(), "hardware": hardware(), "data_hash": data_hash} | more


def git_commit() -> str:
    """Of the code that runs, with ``-dirty`` where files differ from it; ``unknown`` in a copy without its history."""
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(CODE), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def hardware() -> str:
    """What the cluster computes with: CPUs, the kinds of its GPUs, and the driver's processor."""
    if not ray.is_initialized():
        return _processor()
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    kinds = [name.removeprefix("accelerator_type:") for name in resources if name.startswith("accelerator_type:")]
    gpus = f", {total('GPU'):g} GPUs ({', '.join(sorted(kinds)) or 'of unknown kind'})" if total("GPU") else ""
    return f"{total('CPU'):g} CPUs ({_processor()}){gpus}"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def folder_of(checkpoint: Path) -> Path:
    """The folder of the run that made a checkpoint, also of a step's own file in its ``checkpoints``."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def run_of(checkpoint: Path) -> str:
    """The MLflow run that made a checkpoint, as its folder remembers; empty where it does not."""
    path = folder_of(checkpoint) / RUN_FILE
    return path.read_text().strip().rpartition(" ")[2] if path.is_file() else ""
