"""Sampling of anchors and proposals from a generator that the caller owns."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler


class SeededSampler(BalancedPositiveNegativeSampler):  # type: ignore[misc]
    """torchvision's sampler of positives and negatives, drawing from ``generator`` instead of the global one.

    The draws are made on the CPU, so that they are the same on every device.
    """

    def __init__(self, batch_size_per_image: int, positive_fraction: float) -> None:
        super().__init__(batch_size_per_image, positive_fraction)
        self.generator: torch.Generator | None = None

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision's.

        Args:
            matched_idxs: per image (N,): -1 ignored, 0 negative, above 0 positive.

        Returns:
            per image (N,) uint8 masks of the sampled positives and of the sampled negatives.

        Raises:
            RuntimeError: no generator was set.
        """
        if self.generator is None:
            raise RuntimeError("SeededSampler needs its generator set before each use")
        positives, negatives = [], []
        for matched in matched_idxs:
            positive = torch.where(matched >= 1)[0]
            negative = torch.where(matched == 0)[0]
            wanted = min(positive.numel(), int(self.batch_size_per_image * self.positive_fraction))
            positives.append(self._choose(matched, positive, wanted))
            negatives.append(self._choose(matched, negative, min(negative.numel(), self.batch_size_per_image - wanted)))
        return positives, negatives

    def _choose(self, matched: Tensor, candidates: Tensor, count: int) -> Tensor:
        chosen = torch.zeros_like(matched, dtype=torch.uint8)
        order = torch.randperm(candidates.numel(), generator=self.generator)[:count]
        chosen[candidates[order.to(candidates.device)]] = 1
        return chosen
