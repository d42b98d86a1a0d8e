"""Named configurations of sweeps."""

from cluster.sweep.config import Sweep
from cluster.sweep.space import Space

SWEEP: dict[str, Sweep] = {
    "demo": Sweep(space=Space(T=(0, 1, 2, 5, 10, 20), transforms=(0, 3), rate_scale=(0.5, 1.0)), rungs=(4, 8)),
    "figure3": Sweep(space=Space(T=(0, 1, 2, 5, 10, 20, 50, 100), online_interval=(0, 5)), stop_early=False),
    "schedule": Sweep(
        space=Space(
            T=(1, 2, 5, 10, 20, 50, 100),
            rate_scale=(0.5, 1.0, 2.0),
            input_scale=(0.75, 1.0, 1.25),
            transforms=(0, 1, 3, 5),
            box_propagation=(True, False),
            online_interval=(0, 5, 10, 20),
            online_steps=(1, 2, 5, 10),
            online_frames=(1, 2, 4),
            online_reset=("first_frame", "none"),
        ),
        search="optuna",
        samples=64,
    ),
}
"""Of jobs/sweep.py."""
