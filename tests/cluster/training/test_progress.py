"""A training's progress file, and what a kill leaves of it."""

from pathlib import Path

from cluster.training import progress


def test_rows_come_back(tmp_path: Path) -> None:
    assert progress.read(tmp_path) == []
    rows = [{"step": 1, "loss_at_T": 0.1 + 0.2, "kept": 4}, {"step": 2, "kept": 0}]
    for row in rows:
        progress.append(tmp_path, row)
    assert progress.read(tmp_path) == rows


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        progress.append(tmp_path, {"step": step})
    with (tmp_path / progress.FILE).open("a") as file:
        file.write('{"step": 5, "lo')  # killed here
    assert [row["step"] for row in progress.read(tmp_path)] == [1, 2, 3, 4]
    progress.forget_after(tmp_path, 3)
    progress.append(tmp_path, {"step": 4, "again": True})
    assert progress.read(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "again": True}]
    assert [path.name for path in tmp_path.iterdir()] == [progress.FILE]


def test_a_new_run_has_none(tmp_path: Path) -> None:
    progress.forget_after(tmp_path, 0)
    assert progress.read(tmp_path) == []
