"""Named configurations of evaluations."""

from dataclasses import replace

from cluster.evaluation.config import Evaluation
from eosvos.segmentation.config import FOLLOWING, SegmentationConfig

_RELEASE = SegmentationConfig(pasting="release")
_ONLINE = replace(_RELEASE, online_interval=5, online_steps=10, online_choice="release")

EVALUATION: dict[str, Evaluation] = {
    "default": Evaluation(),
    "following": Evaluation(segmentation=FOLLOWING),
    "e-osvos-10": Evaluation(T=(10,), segmentation=_RELEASE),
    "e-osvos-50": Evaluation(T=(50,), segmentation=_RELEASE),
    "e-osvos-50-ona": Evaluation(T=(50,), segmentation=_ONLINE),
    "e-osvos-100-ona": Evaluation(T=(100,), segmentation=_ONLINE),
}
"""Of jobs/evaluate.py. following: what jobs/segment.py does; e-osvos-*: the paper's (Table 2)."""
