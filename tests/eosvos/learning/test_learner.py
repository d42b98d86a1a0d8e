"""What parent and meta-training do behind their contract, where no other test looks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from eosvos.data.augment import TaskFrames
from eosvos.data.tasks import Task
from eosvos.draws import generator
from eosvos.learning.config import OuterConfig, RatesConfig
from eosvos.learning.inner_loop import load_parameters
from eosvos.learning.learner import Learner, MetaLearner, ParentLearner
from eosvos.learning.outer_loop import Learned, Losses
from eosvos.learning.rates import initial_rates
from eosvos.model.config import ModelConfig
from eosvos.model.weights import initial_model

TASK = Task(2, 3, 0, 0, 1, (0, 1), 1, None)
LOSSES = [Losses(2.0, 1.0), None, Losses(1.0, 1.5)]
META = MetaLearner(5, 0, "first", 0.0, 10, RatesConfig(), 7)


def _learned() -> Learned:
    return Learned([torch.zeros(2)], [torch.full((2,), 0.5).log()], OuterConfig())


def test_a_parent_learns_from_all_frames_alike(micro: ModelConfig, scene: Callable[..., Any]) -> None:
    model, _ = initial_model(micro, "none", 0)
    learned = Learned([parameter.detach().clone() for parameter in model.parameters()], [], OuterConfig())
    images, masks = zip(scene(1), scene(2), strict=True)
    frames = TaskFrames(images[0][None], masks[0][None], images[1][None], masks[1][None])
    gradient = ParentLearner(7, learns_statistics=False).gradient(model, learned, frames, TASK, 0)
    assert all(map(torch.equal, model.parameters(), learned.initialization_views))
    expected = model.loss(model.batch(list(images), list(masks)), generator(7, 2, 3))
    expected.backward()
    assert gradient.losses == Losses(expected.item(), expected.item())
    for ours, parameter in zip(gradient.initialization, model.parameters(), strict=True):
        assert torch.equal(ours, parameter.grad)
    assert (gradient.rates, gradient.statistics) == ([], [])


@pytest.mark.parametrize("learner", [ParentLearner(7, learns_statistics=False), replace(META, T=1)])
def test_where_the_object_is_hidden_nothing_is_to_be_found(
    micro: ModelConfig, scene: Callable[..., Any], learner: Learner
) -> None:
    """The loss of such a test frame is that of proposals which are all background; its gradient moves no mask head."""
    model, _ = initial_model(micro, "none", 0)
    values = [parameter.detach().clone() for parameter in model.parameters()]
    rates = list(initial_rates(model, META.rates).learned.values())
    learned = Learned(values, [] if isinstance(learner, ParentLearner) else rates, OuterConfig())
    (image, mask), (other, _) = scene(1), scene(2)
    frames = TaskFrames(image[None], mask[None], other[None], torch.zeros_like(mask)[None])
    gradient = learner.gradient(model, learned, frames, TASK, 0)
    assert all(torch.isfinite(part).all() for part in gradient.initialization)
    batch = model.batch([other], [torch.zeros_like(mask)], may_be_hidden=True)
    load_parameters(model, values)
    losses, _ = model(batch, generator(0))
    assert losses["loss_mask"] == losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0
    assert losses["loss_classifier"] > 0
    assert losses["loss_objectness"] > 0


def test_measures_are_means_over_the_tasks_that_count() -> None:
    parent = ParentLearner(0, learns_statistics=False)
    assert parent.measures(LOSSES, _learned()) == {"kept": 2, "loss_at_T": 1.25}
    assert parent.measures([None], _learned()) == {"kept": 0}
    measures = META.measures(LOSSES, _learned())
    assert abs(measures.pop("mean_rate") - 0.5) < 1e-6
    assert measures == {"kept": 2, "loss_at_0": 1.5, "helped": 0.5, "loss_at_T": 1.25, "gain": 0.25}
    assert META.task_losses(LOSSES[0]) == {"loss_at_0": 2.0, "loss_at_T": 1.0}
    assert META.task_losses(None) == {"loss_at_0": None, "loss_at_T": None}
    assert parent.task_losses(LOSSES[0]) == {"loss_at_T": 1.0}


def test_what_a_person_reads() -> None:
    assert ParentLearner(0, learns_statistics=False).describe({"kept": 1, "loss_at_T": 1.25}) == "loss 1.250"
    some = MetaLearner(5, 2, "first", 0.0, 10, RatesConfig(), 7)
    text = some.describe({"loss_at_0": 1.0, "loss_at_T": 0.5, "mean_rate": 0.01})
    assert text == "test loss 1.000 at 0, 0.500 at 2 to 5, mean rate 0.0100"


def test_phases_share_all_outer_steps() -> None:
    learners: list[Learner] = [
        META,
        MetaLearner(6, 2, "second", 0.25, 8, RatesConfig(), 7),
        ParentLearner(0, learns_statistics=True),
    ]
    for learner in learners:
        assert sum(share for share, _ in learner.phases()) == 1
    (plain, before), (multi, during) = learners[1].phases()
    assert (plain, multi) == (0.75, 0.25)
    assert isinstance(before, MetaLearner)
    assert isinstance(during, MetaLearner)
    assert before.loss_weights(0, before.inner_steps(0, 0)) == (0, 0, 0, 0, 1)
    assert during.loss_weights(0, during.inner_steps(0, 0)) == (0, 0.25, 0.25, 0.25, 0.25)
