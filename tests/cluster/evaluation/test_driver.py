"""Evaluation of a barely trained checkpoint on two tiny sequences, on real Ray: tables, pictures, MLflow."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image
from rich.console import Console

from cluster import run_folder
from cluster.evaluation import driver as evaluation_module
from cluster.evaluation import tasks as evaluation_tasks
from cluster.evaluation.config import Evaluation
from cluster.evaluation.driver import evaluate, evaluate_all
from cluster.evaluation.setup import default_folder, prepared
from cluster.tracking.run import RUN_FILE
from eosvos.data.palette import DAVIS_PALETTE
from eosvos.data.parquet import open_dataset
from eosvos.errors import BadInput, PartsFailed
from eosvos.files import locked
from eosvos.learning.optimization import load, save
from eosvos.metrics.sequence_scores import score_sequence
from eosvos.segmentation.config import SegmentationConfig

QUIET = Console(quiet=True)
RATES = (0.01, 0.05)
MEASURES = ("j_mean", "f_mean", "j_and_f")
FIGURES = {"best.png", "worst.png"} | {
    f"{name}.{ending}" for name in ("accuracy_speed", "over_steps", "per_frame") for ending in ("png", "svg")
}


@pytest.fixture(scope="module")
def learned(trained: Path, ray_here: None) -> Evaluation:
    """An evaluation that was done, with the checkpoint's own rates."""
    evaluation = Evaluation(trained / "meta.safetensors", str(trained / "held"), trained / "learned", T=(0, 3))
    evaluate(evaluation, QUIET)
    return evaluation


@pytest.fixture(scope="module")
def grid(trained: Path, ray_here: None) -> Evaluation:
    """An evaluation that was done, of the parent at two single rates."""
    data, out = str(trained / "held"), trained / "grid"
    evaluation = Evaluation(trained / "parent.safetensors", data, out, T=(0, 3), learning_rate=RATES)
    evaluate(evaluation, QUIET)
    return evaluation


@pytest.fixture
def broken(trained: Path, tmp_path: Path) -> Path:
    """A dataset of which no frame can be read."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in (trained / "held").iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content if path.name == "index.parquet" else b"\0" * len(content))
    return folder


def _table(evaluation: Evaluation, name: str = "objects") -> list[dict[str, Any]]:
    assert evaluation.out is not None
    rows: list[dict[str, Any]] = pq.read_table(evaluation.out / f"{name}.parquet").to_pylist()
    return rows


def _scores(rows: list[dict[str, Any]], **where: Any) -> list[tuple[float, ...]]:
    chosen = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return [tuple(row[name] for name in MEASURES) for row in chosen]


def test_tables(learned: Evaluation) -> None:
    rows, summary = _table(learned), _table(learned, "summary")
    assert max(row["j_and_f"] for row in rows) > 0.1
    assert [(row["T"], row["sequence"], row["object"]) for row in rows] == [
        (T, f"held-0000{sequence}", number) for T in (0, 3) for sequence in (0, 1) for number in (1, 2, 3)
    ]
    assert [(row["T"], row["learning_rate"], row["objects"]) for row in summary] == [(0, None, 6), (3, None, 6)]
    for row in summary:
        assert row["j_and_f"] == pytest.approx(np.mean([own[2] for own in _scores(rows, T=row["T"])]))
        assert row["fps"] > 0
    assert learned.out is not None
    assert (learned.out / "objects.csv").read_text().count("\n") == 13
    assert (learned.out / "summary.csv").read_text().count("\n") == 3
    with Image.open(learned.out / "overview.png") as overview:
        assert overview.width > overview.height > 64


def test_predictions_are_palette_images_named_as_the_frames_that_score_as_the_table_says(learned: Evaluation) -> None:
    rows = _table(learned)
    assert learned.out is not None
    assert sorted(path.name for path in (learned.out / "predictions").iterdir()) == ["T=0", "T=3"]
    for T in (0, 3):
        for sequence in open_dataset(learned.data).sequences:
            own = learned.out / "predictions" / f"T={T}" / sequence.name
            assert sorted(path.name for path in own.iterdir()) == [f"{name}.png" for name in sequence.frame_names]
            predicted = []
            for name in sequence.frame_names:
                with Image.open(own / f"{name}.png") as image:
                    assert image.mode == "P"
                    assert image.getpalette() == DAVIS_PALETTE.flatten().tolist()
                    predicted.append(np.array(image))
            truths = [sequence.mask(position) for position in range(len(sequence))]
            assert np.array_equal(predicted[0], np.asarray(truths[0]))
            again = score_sequence(predicted, truths, (1, 2, 3), sequence.name)
            assert [(o.j_statistics.mean, o.f_statistics.mean, o.j_and_f) for o in again] == _scores(
                rows, T=T, sequence=sequence.name
            )


def test_the_same_command_computes_and_logs_nothing_again(learned: Evaluation, tracking: str) -> None:
    def state() -> tuple[Any, ...]:
        assert learned.out is not None
        made = {path: path.stat().st_mtime_ns for path in learned.out.rglob("*.png") if "predictions" in path.parts}
        run = (learned.out / RUN_FILE).read_text()
        client, run_id = MlflowClient(tracking), run.split()[1]
        names = sorted(name for name in client.get_run(run_id).data.metrics if not name.startswith("system/"))
        logged = [(m.key, m.step, m.value) for name in names for m in client.get_metric_history(run_id, name)]
        return _table(learned), _table(learned, "summary"), made, run, logged

    before = state()
    result = evaluate(learned, QUIET)
    assert state() == before
    assert (result.rows, result.summary) == before[:2]
    assert len(before[4]) == len(set(before[4]))


def test_only_what_is_missing_is_computed(learned: Evaluation, tmp_path: Path) -> None:
    """A journal without one of its entries; and one whose checkpoint changed, where nothing counts."""
    assert learned.out is not None
    again = replace(learned, out=tmp_path / "out", checkpoint=tmp_path / "c.safetensors")
    shutil.copyfile(learned.checkpoint, again.checkpoint)
    evaluate(again, QUIET)
    journal = tmp_path / "out" / "journal"
    (journal / "held-00001.json").unlink()
    kept, before = (journal / "held-00000.json").stat().st_mtime_ns, _scores(_table(again))
    evaluate(again, QUIET)
    assert (journal / "held-00000.json").stat().st_mtime_ns == kept
    assert _scores(_table(again)) == before == _scores(_table(learned))
    optimization = load(again.checkpoint)
    save(optimization.with_single_rate(0.01), again.checkpoint)
    evaluate(again, QUIET)
    assert (journal / "held-00000.json").stat().st_mtime_ns != kept
    assert _scores(_table(again), T=0) == _scores(_table(learned), T=0)
    assert _scores(_table(again), T=3) != _scores(_table(learned), T=3)


def test_a_sequence_that_fails_is_tried_again(
    learned: Evaluation, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fails twice, then works: nothing is missing. Then one that always fails: the other's results stand."""
    original, counts = evaluation_tasks.evaluate_sequence, tmp_path / "attempts"
    counts.mkdir()
    for fails, failing in ((2, "held-00000"), (9, "held-00001")):

        def flaky(*arguments: Any, fails: int = fails, failing: str = failing) -> Any:
            name = arguments[1].sequences[arguments[2]].name
            attempt = len(list(counts.glob(f"{name}-{fails}-*")))
            (counts / f"{name}-{fails}-{attempt}").touch()
            if name == failing and attempt < fails:
                raise RuntimeError("no luck")
            return original(*arguments)

        monkeypatch.setattr(evaluation_tasks, "evaluate_sequence", flaky)
        once = replace(learned, out=tmp_path / f"out-{fails}")
        if fails == 2:
            assert _scores(evaluate(once, QUIET).rows) == _scores(_table(learned))
            assert len(list(counts.iterdir())) == 4
            continue
        with pytest.raises(PartsFailed, match=r"^1 of 2 sequences failed: held-00001 \(.*no luck\)"):
            evaluate(once, QUIET)
        assert len(list(counts.glob("held-00001-9-*"))) == 3
        assert {row["sequence"] for row in _table(once)} == {"held-00000"}
        _, run_id = (tmp_path / "out-9" / RUN_FILE).read_text().split()
        run = MlflowClient(tracking).get_run(run_id)
        assert (run.info.status, "j_and_f" in run.data.metrics) == ("FAILED", False)
        monkeypatch.setattr(evaluation_tasks, "evaluate_sequence", original)
        repaired = evaluate(once, QUIET)
        assert _scores(repaired.rows) == _scores(_table(learned))
        run = MlflowClient(tracking).get_run(run_id)
        assert run.info.status == "FINISHED"
        history = MlflowClient(tracking).get_metric_history(run_id, "j_and_f")
        assert {(m.step, m.value) for m in history} == {(row["T"], row["j_and_f"]) for row in repaired.summary}
        assert len(history) == len(repaired.summary)  # none of the part


def test_several_datasets(learned: Evaluation, encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the first one's sequences fails; its other one, and the second dataset, stand, and are in one table."""
    original = evaluation_tasks.evaluate_sequence

    def failing(*arguments: Any) -> Any:
        if arguments[1].sequences[arguments[2]].name == "held-00000":
            raise RuntimeError("no luck")
        return original(*arguments)

    monkeypatch.setattr(evaluation_tasks, "evaluate_sequence", failing)
    first = replace(learned, T=(0,), out=tmp_path / "first")
    second = replace(first, data=str(encoded), sequences=("train-00000",), out=tmp_path / "second")
    printed = io.StringIO()
    failed = rf"^1 of 2 datasets failed: {learned.data} \(1 of 2 sequences failed: held-00000 \(.*no luck"
    with pytest.raises(PartsFailed, match=failed):
        evaluate_all([first, second], Console(file=printed, width=120, soft_wrap=True))
    assert {row["sequence"] for row in _table(first)} == {"held-00001"}
    assert {row["sequence"] for row in _table(second)} == {"train-00000"}
    table = printed.getvalue().split("all datasets")[1]
    assert "held (1 of 2 sequences)" in table
    assert "train" in table
    with pytest.raises(PartsFailed, match=r"^1 of 2 sequences failed: held-00000"):
        evaluate_all([replace(first, out=tmp_path / "alone")], QUIET)


def test_one_of_several_datasets_is_bad_throughout(
    learned: Evaluation, encoded: Path, broken: Path, tmp_path: Path
) -> None:
    """No frame of the first one can be read; the second one is evaluated all the same."""
    first = replace(learned, data=str(broken), T=(0,), out=tmp_path / "first")
    second = replace(first, data=str(encoded), sequences=("train-00000",), out=tmp_path / "second")
    with pytest.raises(
        PartsFailed, match=rf"^1 of 2 datasets failed: {broken} \({broken}/data-00000.parquet, sequence"
    ):
        evaluate_all([first, second], QUIET)
    assert {row["sequence"] for row in _table(second)} == {"train-00000"}
    with pytest.raises(BadInput, match=rf"^{broken}/data-00000.parquet"):
        evaluate_all([first], QUIET)


def test_several_datasets_are_all_checked_first(learned: Evaluation, encoded: Path, tmp_path: Path) -> None:
    good = replace(learned, out=tmp_path / "good")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    for other, message in (
        (replace(good, data=str(tmp_path / "none"), out=tmp_path / "other"), "no such folder"),
        (replace(good, data=str(encoded), sequences=("bear",), out=tmp_path / "other"), "has no such sequence"),
        (replace(good, data=str(encoded)), f"{learned.data} has the same name"),
        (replace(good, data=str(encoded), out=tmp_path / "notes"), "notes: exists and is no run's folder"),
        (replace(learned, T=(0,)), r"differs in T \(\[0, 3\] there, \[0\] now\)"),
    ):
        with pytest.raises(BadInput, match=message):
            evaluate_all([good, other], QUIET)
    assert not (tmp_path / "good").exists()


def test_mlflow_is_gone_once_the_work_has_begun(
    learned: Evaluation,
    encoded: Path,
    tracking: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All datasets are evaluated; the same command again computes nothing and logs everything."""
    first = replace(learned, T=(0,), sequences=("held-00000",), out=tmp_path / "first")
    second = replace(first, data=str(encoded), sequences=("train-00000",), out=tmp_path / "second")

    def gone(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", gone)
        patch.setattr(evaluation_module, "SILENCE", 0.2)
        patch.setattr(evaluation_module, "SHORT_SILENCE", 0.1)
        evaluate_all([first, second], QUIET)
    said = f"MLflow does not answer at {tracking}: not all is logged; the same command again logs the rest"
    assert caplog.messages.count(said) == 2

    def entries() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/journal/*.json")}

    before = entries()
    assert len(before) == 2
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_experiments", gone)
        with pytest.raises(BadInput, match=r"MLflow cannot be used there \(connection refused"):
            evaluate_all([first, second], QUIET)
    evaluate_all([first, second], QUIET)
    assert entries() == before
    for evaluation in (first, second):
        assert evaluation.out is not None
        run = MlflowClient(tracking).get_run((evaluation.out / RUN_FILE).read_text().split()[1])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["j_and_f"] == _table(evaluation, "summary")[0]["j_and_f"]
        assert run.data.tags["hardware"].startswith("2 CPUs")
        assert (run.data.tags["world_size"], run.data.tags["checkpoint_step"]) == ("2", "7")
        assert [own.dataset.name for own in run.inputs.dataset_inputs] == [Path(evaluation.data).name]


def test_results_of_another_checkpoint_never_land_in_the_run_of_the_old_one(
    learned: Evaluation, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no run can be opened for them at first."""
    again = replace(learned, T=(3,), out=tmp_path / "out", checkpoint=tmp_path / "c.safetensors")
    shutil.copyfile(learned.checkpoint, again.checkpoint)
    evaluate(again, QUIET)
    old = (tmp_path / "out" / RUN_FILE).read_text().split()[1]
    logged = MlflowClient(tracking).get_run(old).data.metrics["j_and_f"]
    save(load(again.checkpoint).with_single_rate(0.01), again.checkpoint)

    def gone(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", gone)
        patch.setattr(MlflowClient, "set_terminated", gone)
        patch.setattr(evaluation_module, "SILENCE", 0.2)
        evaluate_all([again], QUIET)
    evaluate(again, QUIET)
    assert (tmp_path / "out" / RUN_FILE).read_text().split()[1] != old
    assert MlflowClient(tracking).get_run(old).data.metrics["j_and_f"] == logged


def test_pictures_that_cannot_be_drawn_keep_no_table_from_mlflow(
    learned: Evaluation, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(evaluation_module, "evaluation_pictures", fail)
    with pytest.raises(RuntimeError, match="no font"):
        evaluate(replace(learned, T=(0,), out=tmp_path / "out"), QUIET)
    client, run_id = MlflowClient(tracking), (tmp_path / "out" / RUN_FILE).read_text().split()[1]
    assert client.get_run(run_id).info.status == "FAILED"
    assert {"objects.csv", "sequences.csv", "summary.parquet"} <= {own.path for own in client.list_artifacts(run_id)}


def test_default_folders_tell_checkpoints_presets_and_steps_apart(tmp_path: Path) -> None:
    run = tmp_path / "meta_train" / "demo"
    one = Evaluation(run / "best.safetensors", "runs/data/held", T=(0, 10))
    assert default_folder(one, "default") == Path("runs/evaluate/meta_train-demo-best-on-held-T0-10")
    step = replace(one, checkpoint=run / "checkpoints" / "step-000050.safetensors", T=(50,))
    assert default_folder(step, "e-osvos-50-ona").name == "meta_train-demo-step-000050-on-held-e-osvos-50-ona-T50"
    assert default_folder(replace(one, checkpoint=run / "last.safetensors"), "default") != default_folder(
        one, "default"
    )


def test_two_evaluations_in_one_folder(learned: Evaluation) -> None:
    assert learned.out is not None
    with locked(learned.out), pytest.raises(BadInput, match="another run is at work there"):
        evaluate(learned, QUIET)


def test_the_grid_of_rates(grid: Evaluation, learned: Evaluation) -> None:
    rows = _table(grid)
    assert {(row["learning_rate"], row["T"]) for row in rows} == {(rate, T) for rate in RATES for T in (0, 3)}
    assert _scores(rows, T=0, learning_rate=RATES[0]) == _scores(rows, T=0, learning_rate=RATES[1])
    assert _scores(rows, T=3, learning_rate=RATES[0]) != _scores(rows, T=3, learning_rate=RATES[1])
    assert _scores(rows, learning_rate=0.05) == _scores(_table(learned))  # whose every rate is 0.05 too
    assert grid.out is not None
    names = sorted(path.name for path in (grid.out / "predictions").iterdir())
    assert names == ["T=0_rate=0.01", "T=0_rate=0.05", "T=3_rate=0.01", "T=3_rate=0.05"]


def test_mlflow_has_scores_tables_and_the_picture(learned: Evaluation, grid: Evaluation, tracking: str) -> None:
    for evaluation, prefix in ((learned, ""), (grid, "rate_0.05/")):
        assert evaluation.out is not None
        uri, run_id = (evaluation.out / RUN_FILE).read_text().split()
        assert uri == tracking
        client = MlflowClient(uri)
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["checkpoint_step"] == "7"
        assert run.data.tags["world_size"] == "2"
        assert run.data.tags["data_hash"] == open_dataset(evaluation.data).hash
        summary = [row for row in _table(evaluation, "summary") if row["learning_rate"] in (None, 0.05)]
        for name in (*MEASURES, "fps"):
            history = client.get_metric_history(run_id, prefix + name)
            assert {metric.step: metric.value for metric in history} == {row["T"]: row[name] for row in summary}
        assert f"{prefix}sequences/held-00001/j_and_f" in run.data.metrics
        artifacts = {file.path for file in client.list_artifacts(run_id)}
        tables = {f"{name}.{ending}" for name in ("objects", "sequences", "summary") for ending in ("csv", "parquet")}
        assert artifacts == tables | {"overview.png", "report.html", "figures"}
        figures = {file.path.removeprefix("figures/") for file in client.list_artifacts(run_id, "figures")}
        assert figures == FIGURES


def test_the_report_has_all_of_it(grid: Evaluation) -> None:
    assert grid.out is not None
    text = (grid.out / "report.html").read_text()
    for part in (
        "held-00000",
        "held-00001",
        "0.05",
        "the worst sequences at T = ",
        "learning_rate",
        "<svg",
        "data:image/png",
    ):
        assert part in text
    assert {path.name for path in (grid.out / "figures").iterdir()} == FIGURES
    with Image.open(grid.out / "figures" / "worst.png") as sheet:
        assert sheet.width > sheet.height > 64


def test_a_parent_needs_a_rate(grid: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"parent\.safetensors: a parent has no learning rates .* --learning-rate"):
        evaluate(replace(grid, learning_rate=(), out=tmp_path / "out"), QUIET)
    online = SegmentationConfig(online_interval=2)  # fine-tunes at T = 0, too
    with pytest.raises(BadInput, match="a parent has no learning rates"):
        evaluate(replace(grid, learning_rate=(), T=(0,), segmentation=online, out=tmp_path / "out"), QUIET)
    assert not (tmp_path / "out").exists()


def test_another_evaluation_in_the_same_folder_is_refused(learned: Evaluation) -> None:
    with pytest.raises(BadInput, match=r"differs in T \(\[0, 3\] there, \[0, 5\] now\); give another --out"):
        evaluate(replace(learned, T=(0, 5)), QUIET)


def test_a_folder_that_another_evaluation_took_meanwhile(learned: Evaluation, tracking: str, tmp_path: Path) -> None:
    """Between the check of all datasets and this one's turn: its results are not taken for ours, and stay."""
    ready = prepared(replace(learned, out=tmp_path / "out"))
    run_folder.claim(tmp_path / "out", replace(ready.evaluation, T=(9,)))
    before = (tmp_path / "out" / "config.json").read_bytes()
    with pytest.raises(BadInput, match="out: holds a run that differs in T"):
        evaluation_module._evaluate(ready, tracking, QUIET)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]
    assert (tmp_path / "out" / "config.json").read_bytes() == before


def test_more_threads_than_cpus_is_refused(learned: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--threads-per-task 1000: the cluster's largest node has 2 CPUs"):
        evaluate(replace(learned, threads_per_task=1000, out=tmp_path / "out"), QUIET)
    assert not (tmp_path / "out").exists()


def test_a_frame_that_cannot_be_read_is_bad_input_that_names_it(
    learned: Evaluation, broken: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=rf"^{broken}/data-00000.parquet, sequence held-0000\d, position 0: cannot be"):
        evaluate(replace(learned, data=str(broken), out=tmp_path / "out"), QUIET)


def test_some_sequences_and_some_frames(learned: Evaluation, tmp_path: Path) -> None:
    some = replace(learned, sequences=("held-00001",), frames=3, T=(3,), out=tmp_path / "out")
    evaluate(some, QUIET)
    rows = _table(some)
    assert [(row["sequence"], row["object"], row["frames"], row["scored_frames"]) for row in rows] == [
        ("held-00001", number, 3, 1) for number in (1, 2, 3)
    ]
    names = [path.name for path in sorted((tmp_path / "out" / "predictions" / "T=3" / "held-00001").iterdir())]
    all_names = open_dataset(learned.data).sequences[1].frame_names
    assert names == [f"{all_names[position]}.png" for position in (0, 2, 3)]
    with pytest.raises(BadInput, match=r"--sequences bear: .* has no such sequence; it has held-00000, held-00001"):
        evaluate(replace(some, sequences=("bear",), out=tmp_path / "other"), QUIET)
    assert not (tmp_path / "other").exists()
