"""What is refused before an evaluation begins, and where its results go by default."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster import run_folder
from cluster.evaluation import driver
from cluster.evaluation.config import Evaluation, Subject
from cluster.evaluation.driver import evaluate, evaluate_all
from cluster.evaluation.setup import default_folder, prepare
from eosvos.errors import BadInput
from eosvos.files import locked
from eosvos.segmentation.config import SegmentationConfig


def _on(evaluation: Evaluation, **changes: Any) -> Evaluation:
    return replace(evaluation, subject=replace(evaluation.subject, **changes))


REFUSED: dict[str, tuple[Callable[[Evaluation], Evaluation], str]] = {
    "no data": (lambda one: _on(one, data=""), "--data: name an encoded dataset; make one with jobs/encode_dataset"),
    "unknown sequence": (
        lambda one: _on(one, sequences=("bear",)),
        r"--sequences bear: .* has no such sequence; it has held-00000, held-00001",
    ),
    "parent": (
        lambda one: _on(one, checkpoint=one.subject.checkpoint.with_name("parent.safetensors")),
        r"parent\.safetensors: a parent has no learning rates .* --learning-rate",
    ),
    "parent that adapts online": (  # which fine-tunes at T = 0, too
        lambda one: replace(
            _on(one, checkpoint=one.subject.checkpoint.with_name("parent.safetensors")),
            T=(0,),
            segmentation=SegmentationConfig(online_interval=2),
        ),
        "a parent has no learning rates",
    ),
    "threads": (
        lambda one: _on(one, threads_per_task=1000),
        "--threads-per-task 1000: the cluster's largest node has 2 CPUs",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_written(learned: Evaluation, ray_here: None, tmp_path: Path, name: str) -> None:
    change, message = REFUSED[name]
    with pytest.raises(BadInput, match=message):
        evaluate(change(learned), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_datasets_are_all_checked_first(
    learned: Evaluation, learned_folder: Path, encoded: Path, tmp_path: Path
) -> None:
    good, folder, other = learned, tmp_path / "good", tmp_path / "other"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    for second, place, message in (
        (_on(good, data=str(tmp_path / "none")), other, "no such folder"),
        (_on(good, data=str(encoded), sequences=("bear",)), other, "has no such sequence"),
        (_on(good, data=str(encoded)), folder, f"{learned.subject.data} has the same name"),
        (_on(good, data=str(encoded)), tmp_path / "notes", "notes: exists and is no run's folder"),
        (replace(good, T=(0,)), learned_folder, r"differs in T \(\[0, 3\] there, \[0\] now\); give another --out"),
    ):
        with pytest.raises(BadInput, match=message):
            evaluate_all([(good, folder), (second, place)])
    assert not folder.exists()


def test_two_evaluations_in_one_folder(learned: Evaluation, learned_folder: Path) -> None:
    with locked(learned_folder), pytest.raises(BadInput, match="another run is at work there"):
        evaluate(learned, learned_folder)


def test_a_folder_that_another_evaluation_took_meanwhile(
    learned: Evaluation, ray_here: None, tracking: str, tmp_path: Path
) -> None:
    """Between the check of all datasets and this one's turn: its results are not taken for ours, and stay."""
    setup = prepare(learned, tmp_path / "out")
    run_folder.claim(tmp_path / "out", replace(setup.evaluation, T=(9,)))
    before = (tmp_path / "out" / "config.json").read_bytes()
    with pytest.raises(BadInput, match="out: holds a run that differs in T"):
        driver._evaluate(setup, tracking)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]
    assert (tmp_path / "out" / "config.json").read_bytes() == before


def test_default_folders_tell_checkpoints_presets_and_steps_apart(tmp_path: Path) -> None:
    run = tmp_path / "meta_train" / "demo"
    one = Evaluation(Subject(run / "best.safetensors", "runs/data/held"), T=(0, 10))
    assert default_folder(one, "default") == Path("runs/evaluate/meta_train-demo-best-on-held-T0-10")
    step = replace(_on(one, checkpoint=run / "checkpoints" / "step-000050.safetensors"), T=(50,))
    assert default_folder(step, "e-osvos-50-ona").name == "meta_train-demo-step-000050-on-held-e-osvos-50-ona-T50"
    last = _on(one, checkpoint=run / "last.safetensors")
    assert default_folder(last, "default") != default_folder(one, "default")
