"""Evaluation of a barely trained checkpoint on two tiny sequences, on real Ray: tables, predictions, resuming."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from PIL import Image

from cluster import run_folder
from cluster.evaluation.config import Evaluation
from cluster.evaluation.driver import evaluate
from cluster.evaluation.setup import PLACEMENT
from cluster.tracking.run import RUN_FILE
from eosvos.data.palette import DAVIS_PALETTE
from eosvos.data.parquet import open_dataset
from eosvos.learning.optimization import load, save
from eosvos.metrics.sequence_scores import score_sequence

pytestmark = pytest.mark.usefixtures("no_pictures")
RATES = (0.01, 0.05)
MEASURES = ("j_mean", "f_mean", "j_and_f")


def _table(folder: Path, name: str = "objects") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def _scores(rows: list[dict[str, Any]], **where: Any) -> list[tuple[float, ...]]:
    chosen = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return [tuple(row[name] for name in MEASURES) for row in chosen]


def test_tables(learned_folder: Path) -> None:
    rows, summary = _table(learned_folder), _table(learned_folder, "summary")
    assert max(row["j_and_f"] for row in rows) > 0.1
    assert [(row["T"], row["sequence"], row["object"]) for row in rows] == [
        (T, f"held-0000{sequence}", number) for T in (0, 3) for sequence in (0, 1) for number in (1, 2, 3)
    ]
    assert [(row["T"], row["learning_rate"], row["objects"]) for row in summary] == [(0, None, 6), (3, None, 6)]
    for row in summary:
        assert row["j_and_f"] == pytest.approx(np.mean([scores[2] for scores in _scores(rows, T=row["T"])]))
        assert row["fps"] > row["video_fps"] > 0  # of one object, and of three
    assert (learned_folder / "objects.csv").read_text().count("\n") == 13
    assert (learned_folder / "summary.csv").read_text().count("\n") == 3


def test_predictions_are_palette_images_named_as_the_frames_that_score_as_the_table_says(
    learned: Evaluation, learned_folder: Path
) -> None:
    rows = _table(learned_folder)
    assert sorted(path.name for path in (learned_folder / "predictions").iterdir()) == ["T=0", "T=3"]
    for T in (0, 3):
        for sequence in open_dataset(learned.subject.data).sequences:
            folder = learned_folder / "predictions" / f"T={T}" / sequence.name
            assert sorted(path.name for path in folder.iterdir()) == [f"{name}.png" for name in sequence.frame_names]
            predicted = []
            for name in sequence.frame_names:
                with Image.open(folder / f"{name}.png") as image:
                    assert image.mode == "P"
                    assert image.getpalette() == DAVIS_PALETTE.flatten().tolist()
                    predicted.append(np.array(image))
            truths = [sequence.mask(position) for position in range(len(sequence))]
            assert np.array_equal(predicted[0], np.asarray(truths[0]))
            again = score_sequence(predicted, truths, (1, 2, 3), sequence.name)
            assert [(o.j_statistics.mean, o.f_statistics.mean, o.j_and_f) for o in again] == _scores(
                rows, T=T, sequence=sequence.name
            )


def test_the_same_command_computes_and_logs_nothing_again(
    learned: Evaluation, learned_folder: Path, tracking: str
) -> None:
    def state() -> tuple[Any, ...]:
        made = {path: path.stat().st_mtime_ns for path in learned_folder.rglob("predictions/**/*.png")}
        run = (learned_folder / RUN_FILE).read_text()
        client, run_id = MlflowClient(tracking), run.split()[1]
        names = sorted(name for name in client.get_run(run_id).data.metrics if not name.startswith("system/"))
        logged = [(m.key, m.step, m.value) for name in names for m in client.get_metric_history(run_id, name)]
        return _table(learned_folder), _table(learned_folder, "summary"), made, run, logged

    before = state()
    result = evaluate(learned, learned_folder)
    assert state() == before
    assert (result.rows, result.summary) == before[:2]
    assert len(before[4]) == len(set(before[4]))


def test_only_what_is_missing_is_computed(learned: Evaluation, learned_folder: Path, tmp_path: Path) -> None:
    """A journal without one of its entries; and one whose checkpoint changed, where nothing counts."""
    folder, checkpoint = tmp_path / "out", tmp_path / "c.safetensors"
    shutil.copyfile(learned.subject.checkpoint, checkpoint)
    for name in ("journal", "predictions"):
        shutil.copytree(learned_folder / name, folder / name)
    again = replace(learned, subject=replace(learned.subject, checkpoint=checkpoint))
    run_folder.claim(folder, again)
    one, other = folder / "journal" / "held-00000.json", folder / "journal" / "held-00001.json"
    other.unlink()
    written = one.stat().st_mtime_ns
    evaluate(again, folder)
    assert one.stat().st_mtime_ns == written
    assert _scores(_table(folder)) == _scores(_table(learned_folder))
    save(load(checkpoint).with_single_rate(0.01), checkpoint)
    evaluate(again, folder)
    assert one.stat().st_mtime_ns != written
    assert _scores(_table(folder), T=0) == _scores(_table(learned_folder), T=0)
    assert _scores(_table(folder), T=3) != _scores(_table(learned_folder), T=3)


def test_an_evaluation_of_an_older_version_goes_on(learned: Evaluation, learned_folder: Path, tmp_path: Path) -> None:
    """Its configuration was flat and named its folder; nothing is computed again."""
    folder = tmp_path / "out"
    shutil.copytree(learned_folder, folder)
    config = json.loads((folder / run_folder.CONFIG_FILE).read_text())
    old = config.pop("subject") | config | {"out": str(folder)}
    (folder / run_folder.CONFIG_FILE).write_text(json.dumps(old))
    before = {path: path.stat().st_mtime_ns for path in (folder / "journal").iterdir()}
    evaluate(learned, folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "journal").iterdir()} == before
    run_folder.check(folder, learned, free=PLACEMENT)


def test_the_grid_of_rates(grid_folder: Path, learned_folder: Path) -> None:
    rows = _table(grid_folder)
    assert {(row["learning_rate"], row["T"]) for row in rows} == {(rate, T) for rate in RATES for T in (0, 3)}
    assert _scores(rows, T=0, learning_rate=RATES[0]) == _scores(rows, T=0, learning_rate=RATES[1])
    assert _scores(rows, T=3, learning_rate=RATES[0]) != _scores(rows, T=3, learning_rate=RATES[1])
    assert _scores(rows, learning_rate=0.05) == _scores(_table(learned_folder))  # whose every rate is 0.05 too
    names = sorted(path.name for path in (grid_folder / "predictions").iterdir())
    assert names == ["T=0_rate=0.01", "T=0_rate=0.05", "T=3_rate=0.01", "T=3_rate=0.05"]


def test_some_sequences_and_some_frames(learned: Evaluation, ray_here: None, tmp_path: Path) -> None:
    some = replace(learned, subject=replace(learned.subject, sequences=("held-00001",), frames=3), T=(0,))
    evaluate(some, tmp_path / "out")
    rows = _table(tmp_path / "out")
    assert [(row["sequence"], row["object"], row["frames"], row["scored_frames"]) for row in rows] == [
        ("held-00001", number, 3, 1) for number in (1, 2, 3)
    ]
    names = [path.name for path in sorted((tmp_path / "out" / "predictions" / "T=0" / "held-00001").iterdir())]
    all_names = open_dataset(learned.subject.data).sequences[1].frame_names
    assert names == [f"{all_names[position]}.png" for position in (0, 2, 3)]
