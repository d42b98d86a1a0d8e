"""What an evaluation has found so far: a file for each sequence, so that nothing is computed twice."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eosvos.files import write_whole
from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.table import ObjectResult

FOLDER, PREDICTIONS = "journal", "predictions"


@dataclass(frozen=True)
class SequenceResult:
    """One sequence at one learning rate and T.

    Attributes:
        sequence: its name.
        learning_rate: the single rate, or None for learned ones.
        T: fine-tuning steps.
        objects: scores and times.
        diverged: adaptation of an object diverged, so that its masks are empty.
        computed_steps: fine-tuning steps of all objects that were computed for it; others were known from a smaller T,
            or from a cache.
    """

    sequence: str
    learning_rate: float | None
    T: int
    objects: tuple[ObjectResult, ...]
    diverged: bool
    computed_steps: int = 0

    @property
    def setting(self) -> str:
        """Names learning rate and T; the predictions' folder."""
        return f"T={self.T}" if self.learning_rate is None else f"T={self.T}_rate={self.learning_rate!r}"

    @property
    def j_and_f(self) -> float:
        """Mean over the objects."""
        return sum(own.scores.j_and_f for own in self.objects) / len(self.objects)


@dataclass(frozen=True)
class Entry:
    """One sequence.

    Attributes:
        results: one for each learning rate and T.
        time: when it was written, in milliseconds since 1970.
    """

    results: list[SequenceResult]
    time: int


@dataclass(frozen=True)
class Journal:
    """Of one evaluation's folder.

    Attributes:
        out: the evaluation's folder.
        inputs: what the results depend on beside the configuration, as ``digest`` gives it; entries of other inputs do
            not count.
    """

    out: Path
    inputs: str

    def entries(self) -> dict[str, Entry]:
        """The sequences whose results and predictions are there, by name."""
        names = [path.stem for path in sorted((self.out / FOLDER).glob("*.json"))]
        return {name: entry for name in names if (entry := self.entry(name)) is not None}

    def entry(self, sequence: str) -> Entry | None:
        """One sequence's results, where they and the predictions are there."""
        path = self.out / FOLDER / f"{sequence}.json"
        if not path.is_file():
            return None
        values = json.loads(path.read_text())
        results = [_result(own) for own in values["results"]]
        if values["inputs"] != self.inputs or not all(self.predictions(own).is_dir() for own in results):
            return None
        return Entry(results, values["time"])

    def add(self, results: list[SequenceResult], masks: Sequence[Sequence[bytes]], frame_names: Sequence[str]) -> Entry:
        """Writes the predictions of a sequence at all settings, then its entry: what has an entry is whole.

        Args:
            results: of one sequence.
            masks: for each of them, per frame the palette PNG.
            frame_names: of the sequence.
        """
        name = results[0].sequence
        path = self.out / FOLDER / f"{name}.json"
        path.unlink(missing_ok=True)  # of other inputs, whose predictions are replaced now
        for result, images in zip(results, masks, strict=True):
            folder = self.predictions(result)
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for frame, image in zip(frame_names, images, strict=True):
                (partial / f"{frame}.png").write_bytes(image)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = Entry(results, int(time.time() * 1000))
        values = {"inputs": self.inputs, "sequence": name, "time": entry.time}
        write_whole(path, json.dumps(values | {"results": [asdict(result) for result in results]}).encode())
        return entry

    def predictions(self, result: SequenceResult) -> Path:
        """Folder of the predicted masks, ``FRAME.png``."""
        return self.out / PREDICTIONS / result.setting / result.sequence


def digest(checkpoint: Path, data_hash: str) -> str:
    """Of a checkpoint's content and the data."""
    with checkpoint.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}-{data_hash}"


def _result(values: dict[str, Any]) -> SequenceResult:
    """Of ``asdict``, with tuples where JSON has lists."""
    objects = []
    for own in values["objects"]:
        scores = own["scores"]
        positions, j, f = (tuple(scores[name]) for name in ("positions", "j", "f"))
        objects.append(ObjectResult(**own | {"scores": ObjectScores(scores["object_id"], positions, j, f)}))
    return SequenceResult(**values | {"objects": tuple(objects)})
