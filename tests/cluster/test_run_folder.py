"""A run's folder: the same command resumes, another one is refused by the fields that differ."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.run_folder import check, claim, claimed
from cluster.training.config import PLACEMENT, MetaTraining, ParentTraining, shared
from eosvos.errors import BadInput
from eosvos.files import unfinished


def test_the_same_configuration_is_welcome_again(training: MetaTraining, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "meta"
    check(folder, training)
    assert not folder.exists()
    claim(folder, training)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    check(folder, training)


def test_an_empty_folder_is_welcome(training: MetaTraining, tmp_path: Path) -> None:
    check(tmp_path, training)
    claim(tmp_path, training)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["widths"] == [8, 8, 8]


def test_what_a_kill_leaves_of_a_claim_is_no_run(training: MetaTraining, tmp_path: Path) -> None:
    unfinished(tmp_path / "config.json").write_text("{")
    check(tmp_path, training)


def test_one_run_at_a_time_has_a_folder(training: MetaTraining, tmp_path: Path) -> None:
    """The one that is refused leaves the configuration of the one at work as it is."""
    folder, other = tmp_path / "run", replace(training, seed=1)
    check(folder, other)
    with claimed(folder, training):
        before = (folder / "config.json").read_bytes()
        with pytest.raises(BadInput, match="another run is at work there"), claimed(folder, other):
            pass
    with pytest.raises(BadInput, match=r"differs in seed \(0 there, 1 now\)"), claimed(folder, other):
        pass
    assert (folder / "config.json").read_bytes() == before
    with claimed(folder, training):
        pass


def test_a_field_that_changes_what_a_run_computes_is_not_taken_for_its_default(
    training: MetaTraining, tmp_path: Path
) -> None:
    claim(tmp_path, training)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model"]["mask_targets"], config["segmentation"]["pasting"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput) as refused:
        check(tmp_path, training)
    assert "model.mask_targets (shifted there, aligned now), segmentation.pasting (release there, exact now)" in str(
        refused.value
    )
    as_before = replace(
        training,
        model=replace(training.model, mask_targets="shifted"),
        segmentation=replace(training.segmentation, pasting="release"),
    )
    check(tmp_path, as_before)


def test_a_part_that_is_newer_than_the_run_was_no_other_way_there(training: MetaTraining, tmp_path: Path) -> None:
    """Parents of before are not validated, so that they have no test time."""
    parent = ParentTraining(**shared(training))
    claim(tmp_path, parent)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["segmentation"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    check(tmp_path, parent)


def test_the_fields_that_differ_are_named(training: MetaTraining, tmp_path: Path) -> None:
    claim(tmp_path, training)
    other = replace(training, seed=1, model=replace(training.model, widths=(8, 8, 4)), workers=2)
    with pytest.raises(BadInput) as refused:
        check(tmp_path, other, free=PLACEMENT)
    assert str(refused.value) == (
        f"{tmp_path}: holds a run that differs in model.widths ([8, 8, 8] there, [8, 8, 4] now), "
        "seed (0 there, 1 now); give another --out or remove the folder"
    )


def test_where_and_how_may_differ(training: MetaTraining, tmp_path: Path) -> None:
    claim(tmp_path, training)
    other = replace(training, workers=7, threads_per_worker=3, gpu=True, checkpoint_every=9)
    check(tmp_path, other, free=PLACEMENT)


def test_a_field_that_is_newer_than_the_run_has_its_default_there(training: MetaTraining, tmp_path: Path) -> None:
    claim(tmp_path, training)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["segmentation"]["box_propagation"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    check(tmp_path, training)
    without = replace(training.segmentation, box_propagation=False)
    with pytest.raises(BadInput, match=r"segmentation\.box_propagation \(True there, False now\)"):
        check(tmp_path, replace(training, segmentation=without))


def test_a_field_that_is_gone_was_off_there_or_is_named(training: MetaTraining, tmp_path: Path) -> None:
    claim(tmp_path, training)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"out": "/old/place", "inner_transforms": 0}))
    check(tmp_path, training, free=PLACEMENT)
    (tmp_path / "config.json").write_text(json.dumps(values | {"inner_transforms": 2}))
    with pytest.raises(BadInput, match=r"differs in inner_transforms \(2 there, None now\)"):
        check(tmp_path, training, free=PLACEMENT)


def test_a_folder_of_something_else_is_left_alone(training: MetaTraining, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(BadInput, match="exists and is no run's folder; give another --out"):
        check(tmp_path, training)
    with pytest.raises(BadInput, match=r"holiday\.jpg: exists and is no run's folder"):
        check(tmp_path / "holiday.jpg", training)


def test_a_configuration_that_is_no_json(training: MetaTraining, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("half of i")
    with pytest.raises(BadInput, match=r"config\.json: not a readable JSON file"):
        check(tmp_path, training)
