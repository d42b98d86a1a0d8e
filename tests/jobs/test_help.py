"""``--help`` is quick: nothing heavy is imported before the arguments are parsed."""

import subprocess
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).parents[2] / "jobs"
HEAVY = {"torch", "torchvision", "ray", "mlflow", "optuna", "matplotlib", "pyarrow", "scipy", "av"}
CODE = f"""
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as left:
    assert left.code == 0, left.code
finally:
    print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("job", sorted(path.stem for path in JOBS.glob("*.py")))
def test_help_imports_nothing_heavy(job: str) -> None:
    command = [sys.executable, "-c", CODE, str(JOBS / f"{job}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python {JOBS / job}.py ")
    assert done.stderr.strip() == "[]"
