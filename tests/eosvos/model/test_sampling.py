"""The sampler of anchors and proposals: how many, of which kind, and where its randomness comes from."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eosvos.model.sampling import SeededSampler


def _sampler(size: int, fraction: float, seed: int) -> SeededSampler:
    sampler = SeededSampler(size, fraction)
    sampler.generator = torch.Generator().manual_seed(seed)
    return sampler


@given(
    matches=st.lists(st.lists(st.sampled_from([-1, 0, 1, 3]), max_size=40), min_size=1, max_size=3),
    size=st.integers(1, 30),
    fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_numbers_and_kinds(matches: list[list[int]], size: int, fraction: float) -> None:
    given_matches = [torch.tensor(matched, dtype=torch.int64) for matched in matches]
    positives, negatives = _sampler(size, fraction, 0)(given_matches)
    assert len(positives) == len(negatives) == len(matches)
    for matched, positive, negative in zip(given_matches, positives, negatives, strict=True):
        assert positive.shape == negative.shape == matched.shape
        wanted = min(int((matched > 0).sum()), int(size * fraction))
        assert int(positive.sum()) == wanted
        assert int(negative.sum()) == min(int((matched == 0).sum()), size - wanted)
        assert bool((matched[positive > 0] > 0).all())
        assert bool((matched[negative > 0] == 0).all())


MATCHES = [torch.tensor([0, 1] * 100), torch.tensor([1, 0, -1] * 50)]


def _drawn(seed: int) -> list[Tensor]:
    positives, negatives = _sampler(20, 0.5, seed)(MATCHES)
    return positives + negatives


def test_the_generator_decides() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _drawn(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, _drawn(0), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, _drawn(1), strict=True))


def test_every_candidate_has_the_same_chance() -> None:
    sampler = _sampler(20, 0.5, 0)
    counts = torch.stack([sampler([MATCHES[0]])[0][0].double() for _ in range(2000)]).sum(dim=0)[1::2]
    assert 140 < counts.min() < 200 < counts.max() < 260  # 10 of 100 each time: 200 expected, deviation 13


def test_without_a_generator() -> None:
    with pytest.raises(RuntimeError, match="needs its generator"):
        SeededSampler(20, 0.5)(MATCHES)
