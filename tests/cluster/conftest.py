"""A checkpoint that segments a little, for everything that evaluates one; a database of MLflow."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from cluster.training.config import MetaTraining
from eosvos.data.parquet import encode, open_dataset
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.learning.config import RatesConfig
from eosvos.learning.inner_loop import fine_tune
from eosvos.learning.optimization import Optimization, save
from eosvos.learning.rates import initial_rates
from eosvos.model.weights import initial_model


@pytest.fixture(scope="session")
def trained(training: MetaTraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``held``, two sequences; ``parent.safetensors`` and ``meta.safetensors``, the same initialization.

    It has seen the first object of each, so that there is something to score.
    """
    folder = tmp_path_factory.mktemp("evaluation")
    encode(synthetic("held", 2, SyntheticSettings(size=64, frames=4)), folder / "held", {"made": "for tests"})
    model, _ = initial_model(training.model, "none", 3)
    frames = [sequence.frame(0) for sequence in open_dataset(folder / "held").sequences]
    batch = model.batch([image for image, _ in frames], [(mask == 1).to(torch.uint8) for _, mask in frames])
    fine_tune(
        model,
        batch,
        list(initial_rates(model, RatesConfig(rate_form="linear", initial_rate=0.1)).learned.values()),
        range(150),
        (0,),
    )
    parent = Optimization(training.model, model.state_dict(), None, {"step": 7})
    save(parent, folder / "parent.safetensors")
    save(replace(parent, rates=initial_rates(model, RatesConfig(initial_rate=0.05))), folder / "meta.safetensors")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> Iterator[str]:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
