"""An exponential moving average over the outer steps, which swings less than the state that is trained."""

from dataclasses import replace

import torch
from torch import Tensor

from eosvos.learning.optimization import Optimization


class Average:
    """Of an Optimization as it is learned: what is validated and kept, while training goes on from the state itself.

    With s_k the state after outer step k and d the decay, after n steps it is

        a_n = (1 - d) / (1 - d^n) * sum over k = 1 .. n of d^(n - k) s_k,

    whose weights sum to 1: the state before the first step does not count (bias correction). It is computed as
    a_n = a_(n-1) + (1 - d) / (1 - d^n) * (s_n - a_(n-1)). Learning rates are averaged as they are learned, so that of
    logarithms the average is the rates' geometric mean; running statistics of normalization are averaged like the rest.

    Attributes:
        optimization: the average so far, with the facts of the last state.
    """

    def __init__(self, start: Optimization, decay: float) -> None:
        """``start`` is the average to go on from; before the first step its values do not matter. It is copied."""
        self._decay = decay
        rates = start.rates
        self.optimization = replace(
            start,
            initialization={name: value.clone() for name, value in start.initialization.items()},
            rates=rates and replace(rates, learned={name: value.clone() for name, value in rates.learned.items()}),
        )

    def add(self, state: Optimization, step: int) -> None:
        """Takes in the state after outer step ``step``, counted from 1; every step is given, in order."""
        weight = (1 - self._decay) / (1 - self._decay**step)
        new = _floating(state)
        with torch.no_grad():
            for name, value in _floating(self.optimization).items():
                value.lerp_(new[name], weight)
        self.optimization = replace(self.optimization, facts={**state.facts, "average": self._decay})


def _floating(optimization: Optimization) -> dict[tuple[str, str], Tensor]:
    """What can be averaged, by name."""
    rates = optimization.rates.learned if optimization.rates else {}
    parts = (("initialization", optimization.initialization), ("rates", rates))
    return {(part, n): value for part, own in parts for n, value in own.items() if value.is_floating_point()}
