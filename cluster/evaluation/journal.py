"""What an evaluation has found so far: a file for each sequence, so that nothing is computed twice."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eosvos.evaluation.results import FineTuning, SequenceResult
from eosvos.files import write_whole
from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.table import ObjectResult

FOLDER, PREDICTIONS = "journal", "predictions"


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
        folder: the evaluation's.
        inputs: what the results depend on beside the configuration, as ``digest`` gives it; entries of other inputs do
            not count.
    """

    folder: Path
    inputs: str

    def entries(self) -> dict[str, Entry]:
        """The sequences whose results and predictions are there, by name."""
        names = [path.stem for path in sorted((self.folder / FOLDER).glob("*.json"))]
        return {name: entry for name in names if (entry := self.entry(name)) is not None}

    def entry(self, sequence: str) -> Entry | None:
        """One sequence's results, where they and the predictions are there."""
        path = self.folder / FOLDER / f"{sequence}.json"
        if not path.is_file():
            return None
        values = json.loads(path.read_text())
        results = [_result(one) for one in values["results"]]
        if values["inputs"] != self.inputs or not all(self.predictions(result).is_dir() for result in results):
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
        path = self.folder / FOLDER / f"{name}.json"
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
        write_whole(path, json.dumps(values | {"results": [_values(result) for result in results]}).encode())
        return entry

    def predictions(self, result: SequenceResult) -> Path:
        """Folder of the predicted masks, ``FRAME.png``."""
        return self.folder / PREDICTIONS / result.fine_tuning.folder / result.sequence


def digest(checkpoint: Path, data_hash: str) -> str:
    """Of a checkpoint's content and the data."""
    with checkpoint.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}-{data_hash}"


def _values(result: SequenceResult) -> dict[str, Any]:
    """A result as JSON takes it; learning rate and T stand beside the rest."""
    values = asdict(result)
    fine_tuning: dict[str, Any] = values.pop("fine_tuning")
    return {"sequence": result.sequence} | fine_tuning | values


def _result(values: dict[str, Any]) -> SequenceResult:
    """Of ``_values``, with tuples where JSON has lists."""
    objects = []
    for one in values["objects"]:
        scores = one["scores"]
        positions, j, f = (tuple(scores[name]) for name in ("positions", "j", "f"))
        objects.append(ObjectResult(**one | {"scores": ObjectScores(scores["object_id"], positions, j, f)}))
    fine_tuning = FineTuning(values["learning_rate"], values["T"])
    return SequenceResult(
        values["sequence"], fine_tuning, tuple(objects), values["diverged"], values.get("computed_steps", 0)
    )
