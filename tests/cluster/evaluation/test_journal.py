"""What an evaluation's folder remembers, in the format that older versions wrote, too."""

import json
from dataclasses import asdict
from pathlib import Path

from cluster.evaluation.journal import Journal
from eosvos.evaluation.results import FineTuning, SequenceResult
from eosvos.metrics.sequence_scores import ObjectScores
from eosvos.metrics.table import ObjectResult

SCORES = ObjectScores(1, (1, 2), (0.5, 0.25), (0.75, 1.0))
OBJECT = ObjectResult("davis2017", "bear", 4, 1.5, SCORES, 0.25, 2.0)
RESULTS = [
    SequenceResult(
        "bear", FineTuning(rate, T), (ObjectResult("davis2017", "bear", 4, 1.5, SCORES, 0.25, 2.0),), T == 3, 7
    )
    for rate, T in ((None, 0), (0.01, 3))
]
MASKS = [[b"one", b"two"], [b"three", b"four"]]


def test_what_is_added_is_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "inputs")
    entry = journal.add(RESULTS, MASKS, ("00000", "00001"))
    assert journal.entries() == {"bear": entry}
    assert entry.results == RESULTS
    assert (tmp_path / "predictions" / "T=3_rate=0.01" / "bear" / "00001.png").read_bytes() == b"four"
    assert Journal(tmp_path, "other inputs").entries() == {}
    assert journal.entry("goat") is None


def test_an_entry_without_its_predictions_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "inputs")
    journal.add(RESULTS, MASKS, ("00000", "00001"))
    (tmp_path / "predictions" / "T=0").rename(tmp_path / "gone")
    assert journal.entries() == {}


def test_the_format_of_the_file(tmp_path: Path) -> None:
    """Learning rate and T stand beside the rest, as they always did."""
    journal = Journal(tmp_path, "inputs")
    entry = journal.add(RESULTS, MASKS, ("00000", "00001"))
    written = json.loads((tmp_path / "journal" / "bear.json").read_text())
    assert (written["inputs"], written["sequence"], written["time"]) == ("inputs", "bear", entry.time)
    objects = [json.loads(json.dumps(asdict(one))) for one in RESULTS[1].objects]
    assert written["results"][1] == {
        "sequence": "bear",
        "learning_rate": 0.01,
        "T": 3,
        "objects": objects,
        "diverged": True,
        "computed_steps": 7,
    }
    del written["results"][0]["computed_steps"]  # which the first versions did not have, nor these times:
    for name in ("loading_seconds", "video_seconds"):
        del written["results"][0]["objects"][0][name]
    (tmp_path / "journal" / "bear.json").write_text(json.dumps(written))
    found = journal.entry("bear")
    assert found is not None
    assert [result.computed_steps for result in found.results] == [0, 7]
    assert [one.times for result in found.results for one in result.objects] == [
        {"seconds": 1.5, "loading_seconds": None, "video_seconds": None},
        {"seconds": 1.5, "loading_seconds": 0.25, "video_seconds": 2.0},
    ]


def test_fine_tunings_have_different_folders() -> None:
    folders = [FineTuning(rate, T).folder for rate in (None, 0.1, 0.10000001) for T in (0, 10)]
    assert folders[:3] == ["T=0", "T=10", "T=0_rate=0.1"]
    assert len(set(folders)) == len(folders)
    assert str(FineTuning(0.1, 5)) == "T=5 rate=0.1"
