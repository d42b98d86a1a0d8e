"""Whose turn it is, where several share a sequence by weights that every beginning of it keeps."""

from collections.abc import Sequence
from math import gcd, lcm


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
    # In whole numbers, as a period may be long: a turn is ``one``, and who is owed ``total`` or more may have it.
    total = sum(weights)
    one = total * max(2 * len(weights) - 2, 1)
    gains = [weight * (one // total) for weight in weights]
    urgencies = [lcm(*weights) // weight for weight in weights]
    owed = [0] * len(weights)
    period = []
    for _ in range(total):
        owed = [had + gain for had, gain in zip(owed, gains, strict=True)]
        # Of those that may have a turn, the one that must have it the soonest.
        may = [number for number, share in enumerate(owed) if share >= total]
        chosen = min(may, key=lambda number: (one - total - owed[number]) * urgencies[number])
        owed[chosen] -= one
        period.append(chosen)
    return period
