"""What an evaluation has found so far: a file for each sequence, so that nothing is computed twice."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
    """

    sequence: str
    learning_rate: float | None
    T: int
    objects: tuple[ObjectResult, ...]
    diverged: bool

    @property
    def setting(self) -> str:
        """Names learning rate and T; the predictions' folder."""
        return f"T={self.T}" if self.learning_rate is None else f"T={self.T}_rate={self.learning_rate:g}"

    @property
    def j_and_f(self) -> float:
        """Mean over the objects."""
        return sum(own.scores.j_and_f for own in self.objects) / len(self.objects)


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

    def done(self) -> dict[str, list[SequenceResult]]:
        """The sequences whose results are there, by name."""
        entries = {}
        for path in sorted((self.out / FOLDER).glob("*.json")):
            entry = json.loads(path.read_text())
            if entry["inputs"] == self.inputs:
                entries[entry["sequence"]] = [_result(values) for values in entry["results"]]
        return entries

    def add(
        self, results: Sequence[SequenceResult], masks: Sequence[Sequence[bytes]], frame_names: Sequence[str]
    ) -> None:
        """Writes the predictions of a sequence at all settings, then its entry: what has an entry is whole.

        Args:
            results: of one sequence.
            masks: for each of them, per frame the palette PNG.
            frame_names: of the sequence.
        """
        name = results[0].sequence
        for result, images in zip(results, masks, strict=True):
            folder = self.predictions(result)
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for frame, image in zip(frame_names, images, strict=True):
                (partial / f"{frame}.png").write_bytes(image)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        path = self.out / FOLDER / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        entry = {"inputs": self.inputs, "sequence": name, "results": [asdict(result) for result in results]}
        unfinished.write_text(json.dumps(entry))
        unfinished.replace(path)

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
