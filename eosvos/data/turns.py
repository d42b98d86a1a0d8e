"""Whose turn it is, where several share a sequence by weights that every beginning of it keeps."""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd


def turns(weights: Sequence[int]) -> list[int]:
    """One period of the sequence in which each takes turns by its weight; it goes on with the same again.

    In the first n turns each has had its share of n, but for less than one turn: the chairman assignment of Tijdeman
    (Discrete Mathematics 32, 1980), whose bound for k of them is 1 - 1 / (2k - 2).

    Args:
        weights: whole numbers above 0, at least one.

    Returns:
        positions in ``weights``; each occurs as often as its weight, once common divisors are left out.
    """
    weights = [weight // gcd(*weights) for weight in weights]
    total, least = sum(weights), Fraction(1, max(2 * len(weights) - 2, 1))
    had = [0] * len(weights)
    period = []
    for turn in range(1, total + 1):
        owed = [Fraction(weight * turn, total) - count for weight, count in zip(weights, had, strict=True)]
        # Of those that may have a turn, the one that must have it the soonest.
        may = [one for one in range(len(weights)) if owed[one] >= least]
        chosen = min(may, key=lambda one: (1 - least - owed[one]) / weights[one])
        had[chosen] += 1
        period.append(chosen)
    return period
