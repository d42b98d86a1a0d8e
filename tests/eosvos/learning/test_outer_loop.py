"""The outer step against torch's RAdam on the tensors one by one; the sum that travels in one all-reduce."""

import pytest
import torch
from torch import Tensor

from eosvos.learning.config import OuterConfig
from eosvos.learning.outer_loop import GradientSum, Learned, Losses, TaskGradient

SHAPES = [(4, 3, 2, 2), (5,), (2, 3)]
RATE_SHAPES = [(4, 1, 1, 1), (5,), (2, 1)]


def _tensors(seed: int, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws) for shape in shapes]


def _learned(config: OuterConfig) -> Learned:
    return Learned(_tensors(0, SHAPES), _tensors(1, RATE_SHAPES), config)


def _mean(learned: Learned, step: int, scale: float = 1.0) -> GradientSum:
    total = GradientSum(learned)
    for task in range(2):
        a = [scale * part for part in _tensors(100 * step + task, SHAPES)]
        rates = [scale * part for part in _tensors(100 * step + 50 + task, RATE_SHAPES)]
        total.add(task, TaskGradient(a, rates, Losses(1.0, 0.5)))
    total.mean()
    return total


def test_steps_are_radam_on_each_tensor() -> None:
    config = OuterConfig(
        steps=20,
        learning_rate=0.01,
        rates_learning_rate=0.05,
        betas=(0.8, 0.95),
        weight_decay=0.1,
        anneal=0.5,
        clip_norm=1e9,
        rates_clip_norm=1e9,
    )
    learned = _learned(config)
    initialization, rates = (
        [torch.nn.Parameter(value) for value in _tensors(i, s)] for i, s in enumerate((SHAPES, RATE_SHAPES))
    )
    optimizer = torch.optim.RAdam(
        [{"params": [p], "lr": 0.01, "weight_decay": 0.1} for p in initialization]
        + [{"params": [p], "lr": 0.05, "weight_decay": 0.0} for p in rates],
        betas=(0.8, 0.95),
        decoupled_weight_decay=True,
    )
    base = [group["lr"] for group in optimizer.param_groups]
    for step in range(20):
        learned.step(_mean(learned, step), step)
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * (1 if step <= 10 else (20 - step) / 10)
        for parameters, shapes, offset in ((initialization, SHAPES, 0), (rates, RATE_SHAPES, 50)):
            both = zip(*(_tensors(100 * step + offset + task, shapes) for task in range(2)), strict=True)
            for parameter, (a, b) in zip(parameters, both, strict=True):
                parameter.grad = (a + b) / 2
        optimizer.step()
    for ours, expected, start in zip(
        (*learned.initialization_views, *learned.rates_views),
        (*initialization, *rates),
        (*_tensors(0, SHAPES), *_tensors(1, RATE_SHAPES)),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected.detach(), rtol=1e-5, atol=1e-6)
        assert float((ours - start).abs().max()) > 1e-3


@pytest.mark.parametrize("part", ["initialization", "rates"])
def test_each_gradient_has_a_limit_of_its_own(part: str) -> None:
    """Without one the outcome depends on the scale of the gradient's first step; with it only below the limit."""

    def after_a_step(limit: float, scale: float = 1.0) -> Learned:
        limits = {"clip_norm": 1e9, "rates_clip_norm": 1e9}
        limits["clip_norm" if part == "initialization" else "rates_clip_norm"] = limit
        learned = _learned(OuterConfig(steps=9, learning_rate=0.01, anneal=0, **limits))  # type: ignore[arg-type]
        gradient = _mean(learned, 0)
        getattr(gradient, part).mul_(scale)
        before = gradient.buffer.clone()
        learned.step(gradient, 0)
        assert torch.equal(gradient.buffer, before)
        return learned

    norm = float(getattr(_mean(_learned(OuterConfig()), 0), part).norm())
    whole = after_a_step(1e9)
    limited, quarter = after_a_step(norm / 4), after_a_step(1e9, scale=1 / 4)
    torch.testing.assert_close(limited.initialization, quarter.initialization)
    torch.testing.assert_close(limited.rates, quarter.rates)
    assert torch.equal(getattr(after_a_step(norm * 1.1), part), getattr(whole, part))
    assert not torch.allclose(getattr(limited, part), getattr(whole, part))


def test_a_task_on_which_fine_tuning_diverged_freezes_nothing() -> None:
    """Its gradient's norm is beyond float's range, and leaves as little as a gradient of 0."""

    def after(scale: float) -> Learned:
        learned = _learned(OuterConfig(steps=40, learning_rate=0.01, anneal=0))
        for step in range(40):
            learned.step(_mean(learned, step, scale if step == 20 else 1.0), step)
        return learned

    diverged, absent = after(1e28), after(0.0)
    assert torch.equal(diverged.initialization, absent.initialization)
    assert torch.equal(diverged.rates, absent.rates)


def test_linear_rates_stop_at_zero_and_grow_again() -> None:
    config = OuterConfig(rates_learning_rate=0.2, anneal=0)
    learned = Learned([torch.ones(2)], [torch.tensor([0.1, 0.1])], config, "linear")
    total = GradientSum(learned)

    def first_rate_after(steps: int, sign: float) -> float:
        for step in range(steps):
            total.clear()
            total.add(0, TaskGradient([torch.zeros(2)], [torch.tensor([sign, 0.0])], Losses(1.0, 0.5)))
            total.mean()
            learned.step(total, step)
        first, second = learned.rates.tolist()
        assert second == pytest.approx(0.1)
        assert learned.mean_rate() == pytest.approx((first + second) / 2)
        return float(first)

    assert first_rate_after(2, sign=1.0) == 0
    assert first_rate_after(8, sign=-1.0) > 0.1  # once the momentum has turned


def test_a_gradient_of_zero_only_decays() -> None:
    learned = _learned(OuterConfig(steps=9, learning_rate=0.1, weight_decay=0.5, anneal=0))
    before = [value.clone() for value in (learned.initialization, learned.rates)]
    learned.step(GradientSum(learned), 0)
    torch.testing.assert_close(learned.initialization.detach(), before[0] * 0.95)
    assert torch.equal(learned.rates, before[1])


def test_annealing() -> None:
    config = OuterConfig(steps=100, anneal=0.4)
    assert [config.factor(step) for step in (0, 59, 60, 80, 99)] == pytest.approx([1, 1, 1, 0.5, 1 / 40])
    assert {OuterConfig(steps=10, anneal=0).factor(step) for step in range(10)} == {1}
    assert [OuterConfig(steps=4, anneal=1).factor(step) for step in range(4)] == [1, 0.75, 0.5, 0.25]
    assert OuterConfig(steps=1, anneal=0.4).factor(0) == 1


@pytest.mark.parametrize("rates", [True, False])
def test_state_of_the_optimizer_continues_bit_for_bit(rates: bool) -> None:
    config = OuterConfig(steps=14, learning_rate=0.01)
    shapes = RATE_SHAPES if rates else []

    def advance(learned: Learned, steps: range) -> None:
        for step in steps:
            total = GradientSum(learned)
            total.add(0, TaskGradient(_tensors(step, SHAPES), _tensors(50 + step, shapes), Losses(0.0, 0.0)))
            learned.step(total, step)

    whole, first = (Learned(_tensors(0, SHAPES), _tensors(1, shapes), config) for _ in range(2))
    advance(whole, range(14))
    advance(first, range(7))
    tensors = {name: value.clone() for name, value in first.optimizer_tensors().items()}
    second = Learned(first.initialization_views, first.rates_views, config)
    second.load_optimizer_tensors(tensors)
    advance(second, range(7, 14))
    assert torch.equal(second.initialization, whole.initialization)
    assert torch.equal(second.rates, whole.rates)
    forgetful = Learned(first.initialization_views, first.rates_views, config)
    advance(forgetful, range(7, 14))
    assert not torch.equal(forgetful.initialization, whole.initialization)


def test_views_show_what_is_learned() -> None:
    start = _tensors(0, SHAPES)
    learned = Learned(start, [], OuterConfig())
    assert [view.shape for view in learned.initialization_views] == [torch.Size(shape) for shape in SHAPES]
    assert all(torch.equal(view, value) for view, value in zip(learned.initialization_views, start, strict=True))
    learned.step(_parent_mean(learned), 0)
    assert torch.equal(torch.cat([view.flatten() for view in learned.initialization_views]), learned.initialization)
    assert not torch.equal(learned.initialization_views[0], start[0])
    assert torch.equal(start[0], _tensors(0, SHAPES)[0])  # the caller's tensors are left alone


def _parent_mean(learned: Learned) -> GradientSum:
    total = GradientSum(learned)
    total.add(0, TaskGradient(_tensors(5, SHAPES), [], Losses(2.0, 2.0)))
    total.mean()
    return total


def test_sum_mean_and_clear() -> None:
    learned = _learned(OuterConfig())
    total = GradientSum(learned)
    assert total.mean() == [None] * 4
    assert not total.buffer.any()
    losses = [(3.0, 1.0), (2.0, 1.5), None, (0.0, 0.0)]  # a loss of 0 is a loss
    for task, (slot, (at_0, at_T)) in enumerate((slot, pair) for slot, pair in enumerate(losses) if pair is not None):
        rates = _tensors(50 + task, RATE_SHAPES)
        total.add(slot, TaskGradient(_tensors(task, SHAPES), rates, Losses(at_0, at_T)))
    assert total.mean() == losses
    for part, shapes, offset in ((total.initialization, SHAPES, 0), (total.rates, RATE_SHAPES, 50)):
        tasks = [torch.cat([value.flatten() for value in _tensors(offset + task, shapes)]) for task in range(3)]
        torch.testing.assert_close(part, torch.stack(tasks).mean(dim=0))
    total.clear()
    assert not total.buffer.any()


def test_statistics_are_means_over_the_kept_tasks_of_all_workers() -> None:
    learned = Learned(_tensors(0, SHAPES), [], OuterConfig())
    like = [torch.zeros(3), torch.zeros(3)]
    first, second = (GradientSum(learned, like) for _ in range(2))
    seen = [[torch.full((3,), task + 0.5), torch.full((3,), 2.0 * task)] for task in range(3)]
    for total, task in ((first, 0), (second, 1), (first, 2)):  # the fourth task was dropped
        total.add(task, TaskGradient(_tensors(task, SHAPES), [], Losses(1.0, 1.0), seen[task]))
    first.buffer += second.buffer  # what the all-reduce does
    first.mean()
    for index, expected in enumerate((1.5, 2.0)):
        torch.testing.assert_close(first.statistics[index], torch.full((3,), expected))
    torch.testing.assert_close(first.initialization, _flat_mean(3))


def _flat_mean(tasks: int) -> torch.Tensor:
    return torch.stack([torch.cat([v.flatten() for v in _tensors(task, SHAPES)]) for task in range(tasks)]).mean(dim=0)


def test_a_parents_missing_rates_are_on_the_device_of_its_parameters() -> None:
    learned = Learned([torch.zeros(2, device="meta", dtype=torch.float64)], [], OuterConfig())
    assert (learned.rates.device.type, learned.rates.dtype, learned.rates_views) == ("meta", torch.float64, [])


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"meta_batch": 0},
        {"learning_rate": -1},
        {"weight_decay": float("nan")},
        {"clip_norm": 0},
        {"rates_clip_norm": float("nan")},
        {"anneal": 1.1},
    ],
)
def test_configurations_out_of_range_name_the_field(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(values))}: must be "):
        OuterConfig(**values)  # type: ignore[arg-type]
