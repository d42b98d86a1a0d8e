"""The example for Ray's cluster launcher and the environment of jobs, checked as Ray and AWS would, offline."""

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate
import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv

from cluster import session
from cluster.session import largest, total, worker_resources
from eosvos.errors import BadInput

ROOT = Path(__file__).parents[2]
Config = dict[str, Any]


@pytest.fixture
def config() -> Config:
    content: Config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    return content


def _check(config: Config) -> None:
    """Ray's schema, and EC2's for what a node is started with."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    ec2 = botocore.session.get_session().get_service_model("ec2")
    shape = ec2.operation_model("RunInstances").input_shape
    for kind in config["available_node_types"].values():
        report = botocore.validate.ParamValidator().validate(
            {"MinCount": 1, "MaxCount": 1, **kind["node_config"]}, shape
        )
        if report.has_errors():
            raise ValueError(report.generate_report())


def test_the_example_is_valid(config: Config) -> None:
    _check(config)
    prepared = prepare_config(copy.deepcopy(config))
    assert prepared["available_node_types"]["gpu_worker"]["min_workers"] == 0
    assert "ray-wheels" not in str(prepared)  # of the defaults, which are another Ray


def _misspelled_node_config(config: Config) -> None:
    config["available_node_types"]["head"]["node_config"]["InstanceTyp"] = "m5.xlarge"


def _misspelled_key(config: Config) -> None:
    config["setup_command"] = []


def _unknown_head(config: Config) -> None:
    config["head_node_type"] = "heads"


@pytest.mark.parametrize("spoil", [_misspelled_node_config, _misspelled_key, _unknown_head])
def test_a_slip_would_be_found(config: Config, spoil: Callable[[Config], None]) -> None:
    spoil(config)
    with pytest.raises((ValueError, jsonschema.ValidationError)):
        _check(config)


def test_every_command_is_bash(config: Config) -> None:
    commands = [command for key, value in config.items() if key.endswith("_commands") for command in value]
    assert len(commands) > 8
    for command in commands:  # in brackets, as Ray runs them, where a comment would hide the closing one
        subprocess.run(["bash", "-n", "-c", f"({command})"], check=True)


def test_what_is_copied_to_the_nodes_is_here(config: Config) -> None:
    for source in config["file_mounts"].values():
        assert source == "~/.ray/auth_token" or (ROOT / source).exists()
    assert "~/constraints.txt" in str(config["setup_commands"])
    assert f"ray=={ray.__version__}" in (ROOT / "constraints.txt").read_text()


def test_a_cluster_that_grows_counts_what_it_may_grow_to(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ray up` leaves this file on the head, with the resources of each node type filled in."""
    config["available_node_types"]["head"]["resources"] = {"CPU": 4}
    config["available_node_types"]["gpu_worker"]["resources"] = {"CPU": 4, "GPU": 1}
    (tmp_path / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(session.ray, "cluster_resources", lambda: {"CPU": 4.0})
    assert (total("CPU"), total("GPU")) == (4.0, 0.0)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert (total("CPU"), total("GPU")) == (20.0, 4.0)
    monkeypatch.setattr(session.ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4.0}}])
    assert (largest("CPU"), largest("GPU")) == (4.0, 1.0)  # of one node: a task runs on one
    assert worker_resources(4, gpu=True).worker == {"CPU": 1.0, "GPU": 1.0}
    with pytest.raises(BadInput, match="--workers 5 --gpu: the cluster has 4 GPUs"):
        worker_resources(5, gpu=True)


def test_the_environment_of_jobs() -> None:
    content = yaml.safe_load((ROOT / "runtime_env.yaml").read_text())
    assert RuntimeEnv(**content)["env_vars"] == {"MLFLOW_TRACKING_URI": ""}
    assert {".git", ".venv", "runs", "tests"} <= set(content["excludes"])
    assert not {"eosvos", "cluster", "jobs"} & set(content["excludes"])
