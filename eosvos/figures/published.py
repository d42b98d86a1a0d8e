"""Results of published methods, as printed in the e-OSVOS paper (arXiv 2012.01866), to compare ours with."""

from dataclasses import dataclass, replace

DAVIS_2016, DAVIS_2017, DAVIS_2017_TEST = "DAVIS 2016 val", "DAVIS 2017 val", "DAVIS 2017 test-dev"
YOUTUBE_VOS = "YouTube-VOS 2018 val"


@dataclass(frozen=True)
class PublishedResult:
    """One method on one dataset; all scores in percent.

    Attributes:
        name: of the method, as in the paper.
        dataset: ``DAVIS_2016``, ``DAVIS_2017``, ``DAVIS_2017_TEST`` or ``YOUTUBE_VOS``.
        j_and_f: J&F; for YouTube-VOS "Overall", the mean of J and F over seen and unseen categories.
        j: mean J, or None where the table has only the mean of several.
        f: mean F, likewise.
        fps: frames per second; for e-OSVOS per object, fine-tuning included. None where none is printed.
        ensemble: whether several networks vote, the dagger of the paper.
    """

    name: str
    dataset: str
    j_and_f: float
    j: float | None = None
    f: float | None = None
    fps: float | None = None
    ensemble: bool = False

    def __post_init__(self) -> None:
        for field in ("j_and_f", "j", "f"):
            value = getattr(self, field)
            if value is not None and not 0 <= value <= 100:
                raise ValueError(f"{field}: must be a percentage from 0 to 100, got {value}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps: must be above 0, got {self.fps}")


_ENSEMBLES = ("CINM", "OSVOS-S", "PReMVOS")


def _davis_2016(name: str, j: float, f: float, fps: float) -> PublishedResult:
    """A row of the part of Table 2 that has times, but no J&F."""
    return PublishedResult(name, DAVIS_2016, round((j + f) / 2, 2), j, f, fps, name in _ENSEMBLES)


def _davis_2017(dataset: str, name: str, j: float, f: float, j_and_f: float) -> PublishedResult:
    return PublishedResult(name, dataset, j_and_f, j, f, ensemble=name in _ENSEMBLES)


PUBLISHED = (
    # Table 2, DAVIS 2016 validation: J, F, FPS.
    _davis_2016("CINM", 83.4, 85.0, 0.01),
    _davis_2016("Lucid", 83.9, 82.0, 0.005),
    _davis_2016("MVOS", 83.3, 84.1, 4.0),
    _davis_2016("OSVOS", 79.8, 80.6, 0.11),
    _davis_2016("OSVOS-S", 85.6, 87.5, 0.22),
    _davis_2016("OnAVOS", 86.1, 84.9, 0.08),
    _davis_2016("PReMVOS", 84.9, 88.6, 0.01),
    _davis_2016("e-OSVOS-10", 85.1, 84.8, 5.3),
    _davis_2016("e-OSVOS-50", 85.5, 85.8, 1.64),
    _davis_2016("e-OSVOS-50-OnA", 85.9, 85.9, 0.35),
    _davis_2016("e-OSVOS-100-OnA", 86.6, 87.0, 0.29),
    _davis_2016("STM", 88.7, 90.1, 6.25),
    # Table 2, DAVIS 2017 validation: J, F, J&F. Its J&F is not always the mean of the rounded J and F.
    _davis_2017(DAVIS_2017, "CINM", 67.2, 74.4, 70.7),
    _davis_2017(DAVIS_2017, "MVOS", 56.3, 62.1, 59.2),
    _davis_2017(DAVIS_2017, "OSVOS", 56.6, 63.9, 60.3),
    _davis_2017(DAVIS_2017, "OSVOS-S", 64.7, 71.3, 68.0),
    _davis_2017(DAVIS_2017, "OnAVOS", 61.6, 69.1, 65.3),
    _davis_2017(DAVIS_2017, "PReMVOS", 73.9, 81.8, 77.8),
    _davis_2017(DAVIS_2017, "e-OSVOS-10", 69.2, 74.6, 71.9),
    _davis_2017(DAVIS_2017, "e-OSVOS-50", 70.7, 75.9, 73.3),
    _davis_2017(DAVIS_2017, "e-OSVOS-50-OnA", 73.0, 78.3, 75.6),
    _davis_2017(DAVIS_2017, "e-OSVOS-100-OnA", 74.4, 80.0, 77.2),
    _davis_2017(DAVIS_2017, "STM", 79.2, 84.3, 81.7),
    # Table 2, DAVIS 2017 test-dev: J, F, J&F.
    _davis_2017(DAVIS_2017_TEST, "CINM", 64.5, 70.5, 67.5),
    _davis_2017(DAVIS_2017_TEST, "Lucid", 63.4, 69.9, 66.6),
    _davis_2017(DAVIS_2017_TEST, "OSVOS", 47.0, 54.8, 50.9),
    _davis_2017(DAVIS_2017_TEST, "OSVOS-S", 52.9, 62.1, 57.5),
    _davis_2017(DAVIS_2017_TEST, "OnAVOS", 49.9, 55.7, 52.8),
    _davis_2017(DAVIS_2017_TEST, "PReMVOS", 67.5, 75.8, 71.6),
    _davis_2017(DAVIS_2017_TEST, "e-OSVOS-50-OnA", 60.9, 68.6, 64.8),
    _davis_2017(DAVIS_2017_TEST, "STM", 69.3, 75.2, 72.2),
    # Table 3, YouTube-VOS validation: Overall alone; its columns of seen and unseen categories look swapped in a row.
    PublishedResult("OnAVOS", YOUTUBE_VOS, 55.2),
    PublishedResult("OSVOS", YOUTUBE_VOS, 58.8),
    PublishedResult("PReMVOS", YOUTUBE_VOS, 66.9, ensemble=True),
    PublishedResult("e-OSVOS-50-OnA", YOUTUBE_VOS, 71.4),
    PublishedResult("STM", YOUTUBE_VOS, 79.4),
)


def published_on(dataset: str) -> tuple[PublishedResult, ...]:
    """The published results on one dataset, in the paper's order.

    Raises:
        ValueError: a dataset without any.
    """
    found = tuple(result for result in PUBLISHED if result.dataset == dataset)
    if not found:
        known = ", ".join(dict.fromkeys(result.dataset for result in PUBLISHED))
        raise ValueError(f"no published results on {dataset!r}; there are some on {known}")
    return found


def at_davis_2016_speed(results: tuple[PublishedResult, ...]) -> tuple[PublishedResult, ...]:
    """The same results with the frames per second that the paper prints for DAVIS 2016, the only ones that it has.

    Right for DAVIS 2017 as far as e-OSVOS goes: the frames have the same size and its time is counted per object.
    Methods without a time on DAVIS 2016 are left out.
    """
    fps = {result.name: result.fps for result in PUBLISHED if result.dataset == DAVIS_2016}
    return tuple(replace(result, fps=fps[result.name]) for result in results if result.name in fps)
