"""The rows of the ablation as data, and two of them from real runs."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from cluster.experiments import rate_choice
from cluster.experiments.ablation import ablate, finished_seeds, steps_of_same_time
from cluster.experiments.ablation_rows import AblationRow, choices, table_1
from cluster.experiments.ablation_table import instance_norm_note
from cluster.experiments.config import Ablation
from cluster.tracking.run import RUN_FILE
from cluster.training import progress
from cluster.training.config import MetaTraining, ParentTraining, shared
from cluster.training.presets import META, PARENT
from eosvos.config import flattened, to_dict
from eosvos.errors import BadInput
from eosvos.segmentation.config import SegmentationConfig

STEPS = 10
BARE = SegmentationConfig(transforms=0, box_propagation=False)


def test_each_row_differs_from_the_one_before_in_one_thing() -> None:
    rows = table_1(PARENT["demo"], META["demo"], 10, (50,))
    assert [(row.T, row.published) for row in rows] == [
        (10, 33.6),
        (50, 39.7),
        (10, 64.4),
        (10, 67.2),
        (10, 69.4),
        (10, 69.9),
        (10, 71.2),
        (50, 71.3),
        (10, None),
        (50, 73.7),
    ]
    learned = [row for row in rows if row.meta is not None]
    assert [row.meta is None for row in rows[:2]] == [True, True]

    def parts(row: AblationRow) -> tuple[object, ...]:
        assert row.meta is not None
        assert row.meta.model == row.parent.model
        model = row.meta.model
        return model.normalization, model.mask_loss, row.meta.rates.rate_level, row.segmentation

    differences = [
        sum(a != b for a, b in zip(parts(before), parts(after), strict=True))
        for before, after in itertools.pairwise(learned)
    ]
    assert differences == [1, 1, 1, 1, 0, 1, 0]
    whole = SegmentationConfig(transforms=0, online_interval=5, online_steps=10, online_choice="release")
    assert parts(learned[-1]) == ("group", "lovasz_hinge", "neuron", whole)
    assert not rows[0].segmentation.box_propagation
    assert rows[0].parent == rows[1].parent == replace(learned[0].parent, parent_targets="merged")
    assert {row.parent.parent_targets for row in learned} == {"one"}


def test_published_figures_stand_beside_their_own_number_of_steps() -> None:
    rows = table_1(PARENT["demo"], META["demo"], 5, (10, 100))
    figures = [(row.T, row.published) for row in rows]
    assert figures == [
        (5, None),
        (10, 33.6),
        (100, 41.6),
        *[(5, None)] * 5,
        (10, 71.2),
        (100, 71.2),
        (5, None),
        (10, None),
        (100, 74.8),
    ]


@pytest.mark.slow
def test_rows_come_from_real_runs_and_share_the_parent(
    ray_here: None,
    training: MetaTraining,
    encoded: Path,
    tmp_path: Path,
    tracking: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_choice, "WIDENINGS", 1)  # of a model that knows nothing no rate is best
    parent = ParentTraining(**shared(training))
    parent = replace(parent, held_out=0.25)
    outer = replace(training.outer, steps=STEPS)
    meta = replace(training, held_out=0.25, validate_every=STEPS, validation_frames=3, outer=outer)
    merged = replace(parent, parent_targets="merged")
    rows = [
        AblationRow("searched", 33.6, 2, merged, None, BARE),
        AblationRow("searched", None, 1, merged, None, BARE),
        AblationRow("+ learned", 71.2, 2, parent, meta, SegmentationConfig()),
        AblationRow("+ learned", None, 1, parent, meta, SegmentationConfig()),
        AblationRow(
            "second order, as long", None, 2, parent, replace(meta, order="second"), SegmentationConfig(), True
        ),
    ]
    ablation, out = Ablation(str(encoded), (0.001, 0.003)), tmp_path / "out"
    results = ablate(rows, ablation, out)
    summary = [result.values for result in results]
    name = "meta-group-lovasz_hinge-neuron"
    trained = sorted(path.name for path in (out / "seed-0").glob("[pm]*"))
    parents = ["parent-group-lovasz_hinge", "parent-group-lovasz_hinge-merged"]
    assert trained == [name, f"{name}-second", f"{name}-second-same-time", *parents]
    targets = [json.loads((out / "seed-0" / one / "config.json").read_text())["parent_targets"] for one in parents]
    assert targets == ["one", "merged"]
    assert [(row["row"], row["T"], row["published_j_and_f"]) for row in summary] == [
        ("searched", 2, 33.6),
        ("searched", 1, None),
        ("+ learned", 2, 71.2),
        ("+ learned", 1, None),
        ("second order, as long", 2, None),
    ]
    assert [row["learning_rates"] == "" for row in summary] == [False, False, True, True, True]
    assert all(row["objects"] == 12 for row in summary)
    assert (summary[0]["to_first"], summary[0]["to_first_se"]) == (0, 0)
    assert (summary[0]["to_previous"], summary[0]["to_previous_se"]) == (0, 0)
    assert summary[1]["to_previous"] == pytest.approx(summary[1]["j_and_f"] - summary[0]["j_and_f"])
    assert summary[3]["to_previous"] == pytest.approx(summary[3]["j_and_f"] - summary[2]["j_and_f"])
    assert summary[2]["to_first"] == pytest.approx(summary[2]["j_and_f"] - summary[0]["j_and_f"])
    # Second order takes as many steps as fill the time of the first row that learns, by the pace at which both ran.
    folders = [out / "seed-0" / f"{name}{ending}" for ending in ("", "-second", "-second-same-time")]
    steps = [json.loads((folder / "config.json").read_text())["outer"]["steps"] for folder in folders]
    assert steps[0] == steps[1] == STEPS
    assert steps[2] >= 1
    assert steps[2] == steps_of_same_time(*(progress.read(folder) for folder in (folders[1], folders[0])))
    assert [row["outer_steps"] for row in summary] == [parent.outer.steps] * 2 + [steps[0]] * 2 + [steps[2]]
    evaluations = sorted(path.name for path in (out / "seed-0").glob("evaluation-meta*"))
    assert evaluations == [f"evaluation-{name}-boxes-T=1,2", f"evaluation-{name}-second-same-time-boxes-T=2"]
    assert summary[2]["training_seconds"] == pytest.approx(sum(row["seconds"] for row in progress.read(folders[0])))
    assert [row["j_and_f_seed_0"] for row in summary] == pytest.approx([row["j_and_f"] for row in summary])
    assert pq.read_table(out / "ablation.parquet").num_rows == 5
    searches = list((out / "seed-0" / "search-group-lovasz_hinge-merged").glob("*/config.json"))
    assert searches
    assert not any(
        json.loads(path.read_text())["segmentation"]["box_propagation"] for path in searches
    )  # as those rows report
    assert finished_seeds(rows, out) == [0]
    assert finished_seeds(rows, tmp_path) == []
    more = replace(meta, order="second", multi_step=0.5)
    assert finished_seeds([*rows, AblationRow("another", None, 2, parent, more, BARE)], out) == []
    text = (out / "ablation.md").read_text()
    assert f"| {100 * summary[2]['j_and_f']:.1f} ± {100 * summary[2]['j_and_f_se']:.1f} | " in text
    assert "| 71.2 |" in text
    client = MlflowClient(tracking)
    _, run_id = (out / RUN_FILE).read_text().split()
    children = client.search_runs(
        [client.get_run(run_id).info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    assert sorted(child.data.metrics["j_and_f"] for child in children) == sorted(row["j_and_f"] for row in summary)
    assert {child.data.params.get("order") for child in children} == {None, "first", "second"}
    assert sorted(child.data.metrics.get("published_j_and_f", 0) for child in children) == [0, 0, 0, 33.6, 71.2]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert ablate(rows, ablation, out) == results
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before


def test_group_normalization_that_is_instance_normalization_is_said() -> None:
    assert instance_norm_note(table_1(PARENT["demo"], META["demo"], 10, ())) == ""
    rows = table_1(PARENT["davis2016-small"], META["davis2016-small"], 10, ())
    note = instance_norm_note(rows)
    assert "of mobilenet_v2 has a group for each channel in 6 of 51 layers (of 16 and 32 channels)" in note
    assert instance_norm_note([row for row in rows if row.parent.model.normalization == "frozen_batch"]) == ""


def test_choices_differ_from_the_preset_in_one_thing() -> None:
    rows = choices(PARENT["demo"], META["demo"], 5)
    assert all(row.parent == PARENT["demo"] and row.segmentation == META["demo"].segmentation for row in rows)
    first = flattened(to_dict(META["demo"]))
    changed = [
        {name: value for name, value in flattened(to_dict(row.meta)).items() if value != first[name]} for row in rows
    ]
    assert changed == [
        {},
        {"rates.rate_level": "single"},
        {"multi_step": 0.5},
        {"multi_step": 0.5},
        {"order": "second"},
        {"order": "second"},
    ]
    assert [row.same_time for row in rows] == [False, False, False, True, False, True]


def test_the_same_time_is_counted_at_the_pace_of_most_steps() -> None:
    """Two seconds a step against half a second, whatever the first step and stalled ones took; slower at first."""
    slow, fast, mixed = (
        [{"seconds": seconds} for seconds in (9.0, *own)]
        for own in ((2,) * 3, (0.5, 60, 0.5, 0.5, 0.5, 0.5) * 2, (1.5,) * 10 + (0.5,) * 10)
    )
    assert steps_of_same_time(slow, fast) == 3  # 13 steps of 0.5 s are 6.5 s
    assert steps_of_same_time(fast, slow) == 16
    assert steps_of_same_time(slow, mixed) == 10  # 21 steps of 1 s on average
    assert steps_of_same_time([{"seconds": 100.0}], fast) == 1


def test_a_rate_is_searched_for_on_held_out_sequences(training: MetaTraining, tmp_path: Path) -> None:
    parent = ParentTraining(**shared(training))
    ablation = Ablation(*training.data, (0.001,))
    with pytest.raises(BadInput, match="--held-out: the parent's rate is searched for on held-out"):
        ablate([AblationRow("searched", None, 2, parent, None, BARE)], ablation, tmp_path / "out")
    assert not (tmp_path / "out").exists()
