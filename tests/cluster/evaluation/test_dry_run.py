"""What would be evaluated, said without evaluating it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.evaluation import dry_run
from cluster.evaluation.config import Subject
from cluster.evaluation.dry_run import what_would_be_evaluated
from cluster.evaluation.presets import EVALUATION
from eosvos.segmentation.config import SegmentationConfig

BARE = SegmentationConfig(box_propagation=False)


@pytest.mark.parametrize("preset", ["default", "e-osvos-50-ona", "e-osvos-100-ona"])
def test_time_of_all_steps_and_frames(
    trained: Path, encoded: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    """Twelve objects in three frames each; a step takes a minute, one of an adaptation two, a frame a quarter."""
    measured, ran = iter((60.0, 120.0, 15.0) * 3), []
    monkeypatch.setattr(dry_run, "seconds_of", lambda task, gpu: (ran.append(task()), next(measured))[1])
    subject = Subject(trained / "meta.safetensors", str(encoded))
    evaluation = replace(EVALUATION[preset], subject=subject)
    text = what_would_be_evaluated(evaluation)
    assert f"data: {encoded}, 4 sequences, 12 objects, 36 frames of them" in text
    assert "60.00 s for a fine-tuning step, 15.00 s for a frame" in text
    T, config = evaluation.T, evaluation.segmentation
    adapting = 36 / config.online_interval * config.online_steps * 120 if config.online_interval else 0
    hours = (12 * max(T) * 60 + len(T) * 36 * 15 + adapting) / 3600
    assert f"time: about {hours:.1f} hours in all for one task" in text
    assert ("s for an online adaptation" in text) == (config.online_interval > 0)
    grid = replace(subject, learning_rate=(0.1, 0.2, 0.3))
    hours = (3 * 12 * 2 * 60 + (1 + 3) * 36 * 15) / 3600
    text = what_would_be_evaluated(replace(evaluation, subject=grid, T=(0, 2), segmentation=BARE))
    assert f"time: about {hours:.1f} hours" in text
    assert "none named" in what_would_be_evaluated(replace(evaluation, subject=replace(subject, data="")))
    assert len(ran) == 9


def test_the_named_presets_are_the_papers() -> None:
    steps = {name: evaluation.T for name, evaluation in EVALUATION.items()}
    assert steps == {
        "default": (0, 1, 5, 10),
        "following": (0, 1, 5, 10),
        "e-osvos-10": (10,),
        "e-osvos-50": (50,),
        "e-osvos-50-ona": (50,),
        "e-osvos-100-ona": (100,),
    }
    assert {name for name, one in EVALUATION.items() if one.segmentation.online_interval} == {
        "e-osvos-50-ona",
        "e-osvos-100-ona",
    }
