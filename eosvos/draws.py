"""Randomness: every draw depends on what it belongs to alone, never on what was drawn before."""

from enum import Enum

import numpy as np
import torch


class Stream(Enum):
    """What is drawn. Draws of different streams, or for different ids, are independent of each other.

    A member's value is what its ids are of, the number that keeps it apart from the others of the same ids, and whether
    that number stands before the ids. The numbers and their places must stay: published figures depend on them.
    """

    PLAN_ORDER = ("epoch", 1, True)
    """Order of the objects in an epoch; ids: seed, epoch."""
    TASK = ("task", 2, True)
    """Frames and donor of a task; ids: seed, epoch, index."""
    AUGMENTATION = ("task", 3, True)
    """Augmentation of a task; ids: seed, epoch, index."""
    HELD_OUT = ("training", 4, True)
    """Sequences that are held out; ids: seed."""
    INNER_STEPS = ("task", 5, True)
    """Number of inner steps of a task; ids: seed, epoch, index."""
    VIEWS = ("task", 6, True)
    """Windows that the frames of a task are cut to; ids: seed, epoch, index."""
    TEST_LOSS = ("task", 0, False)
    """RPN and RoI samples of a task's test loss; ids: seed, epoch, index."""
    INNER_STEP = ("task", 1, False)
    """RPN and RoI samples of a task's inner steps; ids: seed, epoch, index, and the step behind the number."""
    FINE_TUNING = ("object", None, False)
    """RPN and RoI samples of fine-tuning steps at test time; ids: seed, object, and the step."""
    TRANSFORMS = ("fine-tuning step", 0, False)
    """Transforms of the given frames in a fine-tuning step at test time; ids: seed, object, step."""
    JITTER = ("frame", 1, False)
    """Propagated boxes; ids: seed, object, position of the frame."""
    ONLINE = ("frame", 2, False)
    """RPN and RoI samples of an online adaptation; ids: seed, object, position of the frame, and the step."""
    STATE = ("frame", 3, False)
    """RPN and RoI samples of the loss that rates fine-tuned states; ids: seed, object, 0."""
    SEQUENCE_ORDER = ("sweep", 1, False)
    """Order of the sequences in a sweep; ids: seed."""
    RANDOM_SEARCH = ("sweep", 2, False)
    """Settings that a random search tries; ids: seed."""

    def ids(self, *owner: int) -> tuple[int, ...]:
        """The ids of a generator: those of what the draws belong to (each at least 0), and the stream's number."""
        _, number, comes_first = self.value
        if number is None:
            return owner
        return (number, *owner) if comes_first else (*owner, number)

    def numpy(self, *owner: int) -> np.random.Generator:
        """A NumPy generator of this stream for the ids ``owner``."""
        return np.random.default_rng(self.ids(*owner))

    def torch(self, *owner: int) -> torch.Generator:
        """A CPU generator of PyTorch, of this stream for the ids ``owner``."""
        return generator(*self.ids(*owner))


def generator(*ids: int) -> torch.Generator:
    """A CPU generator of PyTorch that depends on ``ids`` (each at least 0) alone."""
    seed = int(np.random.SeedSequence(ids).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(seed)
