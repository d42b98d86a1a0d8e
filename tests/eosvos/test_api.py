"""The public API: four names of the package, imported when they are asked for."""

import subprocess
import sys

import pytest

import eosvos
from eosvos.learning.optimization import Optimization
from eosvos.packaged import CHECKPOINTS, DEFAULT


def test_the_names() -> None:
    assert set(eosvos.__all__) == {"OneShotSegmenter", "load_checkpoint", "open_clip", "open_masks"}
    assert set(eosvos.__all__) <= set(dir(eosvos))
    for name in eosvos.__all__:
        assert callable(getattr(eosvos, name))
    with pytest.raises(AttributeError, match="no attribute 'segment_all'"):
        _ = eosvos.segment_all


def test_the_packaged_checkpoint_is_the_default() -> None:
    optimization = eosvos.load_checkpoint()
    assert isinstance(optimization, Optimization)
    assert optimization.facts == eosvos.load_checkpoint(CHECKPOINTS[DEFAULT]).facts
    assert eosvos.OneShotSegmenter(optimization).optimization is optimization


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, eosvos; print({'torch', 'numpy', 'av', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
