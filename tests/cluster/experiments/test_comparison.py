"""The fair comparison: its parts by hand, and all of it on a training of seconds."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.experiments import fair_parent, rate_choice
from cluster.experiments.comparison import compare
from cluster.experiments.comparison_table import FAIR, META, AtT, markdown_text, terminal_table
from cluster.experiments.config import Comparison
from cluster.experiments.fair_parent import Candidate, best, fair_steps
from cluster.experiments.pair import Pair, finished_seeds, train_pair
from cluster.experiments.rate_choice import RateChoice, wider_rates
from cluster.training import progress
from cluster.training.config import MetaTraining, ParentTraining, shared
from eosvos.data.config import Targets
from eosvos.data.parquet import encode
from eosvos.data.readers.synthetic import SyntheticSettings, synthetic
from eosvos.errors import BadInput
from eosvos.learning.optimization import load
from eosvos.metrics.table import Row


def test_the_fair_parent_fills_the_time_at_the_pace_of_most_steps() -> None:
    rows: list[progress.StepRow] = [{"seconds": seconds} for seconds in (9.0, 0.5, 0.5, 600.0, 0.5)]
    assert fair_steps(rows, 10.0) == 22  # 10 s at 0.5 s a step, and a tenth more


def _grid(scores: dict[int, dict[float, float]]) -> list[Row]:
    return [
        {"T": T, "learning_rate": rate, "j_and_f": score} for T, own in scores.items() for rate, score in own.items()
    ]


@pytest.mark.parametrize(
    ("scores", "wider"),
    [
        ({5: {0.001: 0.1, 0.003: 0.3, 0.01: 0.2}}, ()),
        ({5: {0.001: 0.5, 0.003: 0.3, 0.01: 0.2}}, (0.0003,)),
        ({5: {0.001: 0.1, 0.003: 0.3, 0.01: 0.4}}, (0.03,)),
        ({5: {0.001: 0.1, 0.003: 0.3, 0.01: 0.4}, 10: {0.001: 0.9, 0.003: 0.3, 0.01: 0.4}}, (0.0003, 0.03)),
        ({5: {0.001: 0.1}}, (0.003,)),
    ],
)
def test_a_grid_is_widened_where_the_best_is_at_its_edge(
    scores: dict[int, dict[float, float]], wider: tuple[float, ...]
) -> None:
    assert wider_rates(_grid(scores)) == wider


def test_steps_go_with_the_rate_that_is_best_there() -> None:
    choice = RateChoice({1: 0.003, 5: 0.001, 10: 0.003}, {1: 0.2, 5: 0.6, 10: 0.7})
    assert choice.by_rate((0, 1, 5, 10)) == {0.003: (0, 1, 10), 0.001: (5,)}
    assert choice.by_rate((1, 5, 10)) == {0.003: (1, 10), 0.001: (5,)}
    assert choice.score == pytest.approx(0.5)


def _candidate(targets: Targets, outer_rate: float, score: float, seconds: float = 66.0) -> Candidate:
    choice = RateChoice({5: 0.003, 10: 0.001}, {5: score - 0.1, 10: score + 0.1})
    name = f"fair_parent-{targets}-{outer_rate:g}"
    return Candidate(name, targets, outer_rate, Path("run") / "last.safetensors", seconds, choice)


CANDIDATES = (
    _candidate("one", 0.001, 0.5),
    _candidate("merged", 0.001, 0.55),
    _candidate("instances", 0.001, 0.45),
    _candidate("merged", 0.003, 0.55),
    _candidate("merged", 0.0003, 0.3, seconds=50.0),
)


def test_the_fair_parent_is_the_best_on_held_out_sequences() -> None:
    assert best(CANDIDATES) == CANDIDATES[1]  # of equals the first
    assert best(CANDIDATES[::-1]) == CANDIDATES[3]
    assert Pair(0, Path("best.safetensors"), 60.0, CANDIDATES).fair == CANDIDATES[1]


def test_both_tables_say_what_the_others_had() -> None:
    pair = Pair(4, Path("best.safetensors"), 60.0, CANDIDATES)
    scores = {"objects": 36, **{f"{name}{end}": 0.5 for name in ("j_mean", "f_mean", "j_and_f") for end in ("", "_se")}}
    scores |= {"seconds": None}
    line = AtT(5, {META: scores, FAIR: scores}, (0.003,), {5: (0.1, 0.02)}, 36)  # type: ignore[dict-item]
    text = markdown_text([pair], [line])
    assert "| 4 | merged | 0.001 | 55.0 | 45.0 (0.003) | 65.0 (0.001) | 1.1 | the fair parent |" in text
    assert "| 4 | one | 0.001 | 50.0 | 40.0 (0.003) | 60.0 (0.001) | 1.1 |  |" in text
    assert text.count("the fair parent |") == 1
    chosen = "merged, outer rate 0.001: 55.0 (one 50.0, instances 45.0, merged 0.003 55.0, merged 0.0003 30.0)"
    for shown in (text, " ".join(terminal_table([pair], [line]).split())):
        assert chosen in shown
        assert "LESS" not in shown
    short = replace(pair, meta_seconds=67.0)
    assert "LESS: not a fair comparison" in markdown_text([short], [line])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "held"
    encode(synthetic("held", 2, SyntheticSettings(size=64, frames=4)), folder, {"made": "for tests"})
    return folder


def _parent(training: MetaTraining) -> ParentTraining:
    return ParentTraining(**shared(training))


@pytest.fixture(scope="module")
def meta(training: MetaTraining) -> MetaTraining:
    return replace(training, held_out=0.25, validate_every=2, validation_frames=3)


@pytest.fixture(scope="module")
def comparison(training: MetaTraining, report: Path) -> Iterator[Comparison]:
    """Of a model that knows nothing, for which no rate is best."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_choice, "WIDENINGS", 1)
        patch.setattr(fair_parent, "WIDENINGS", 1)
        yield Comparison(*training.data, str(report), T=(0, 2, 3), rates=(0.003, 0.01), outer_factors=(3.0,))


@pytest.fixture(scope="module")
def pair(ray_here: None, meta: MetaTraining, comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return train_pair(_parent(meta), meta, comparison, tmp_path_factory.mktemp("pair"))


@pytest.mark.slow
def test_each_kind_is_tried_then_outer_rates_of_the_best(
    pair: Pair, meta: MetaTraining, comparison: Comparison
) -> None:
    folder, own = pair.meta.parent.parent, meta.outer.learning_rate
    kinds, rates = pair.candidates[:3], pair.candidates[3:]
    assert [(one.name, one.targets) for one in kinds] == [
        ("fair_parent", "one"),
        ("fair_parent-merged", "merged"),
        ("fair_parent-instances", "instances"),
    ]
    assert {one.outer_rate for one in kinds} == {own}
    assert {one.targets for one in rates} == {best(kinds).targets}
    tried = [one.outer_rate for one in rates]
    assert tried[0] == pytest.approx(3 * own)
    assert len(tried) == 2  # with one more at the edge where the best is
    assert tried[1] == (pytest.approx(9 * own) if rates[0].choice.score > best(kinds).choice.score else 0.0003)
    for candidate in pair.candidates:
        config = json.loads((folder / candidate.name / "config.json").read_text())
        assert config["parent_targets"] == candidate.targets
        assert config["outer"]["learning_rate"] == candidate.outer_rate
        assert candidate.checkpoint == folder / candidate.name / "best.safetensors"
        assert candidate.choice.rates.keys() == {2, 3}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert train_pair(_parent(meta), meta, comparison, folder) == pair
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before


@pytest.mark.slow
def test_the_fair_parent_has_the_same_start_stream_and_at_least_the_time(pair: Pair) -> None:
    folder = pair.meta.parent.parent
    configs = [json.loads((folder / name / "config.json").read_text()) for name in ("parent", "fair_parent", "meta")]
    parent, fair, meta = configs
    assert fair["outer"].pop("steps") > parent["outer"].pop("steps")
    validated = {name: fair.pop(name) for name in ("validate_every", "validation_T", "validation_rates")}
    assert validated["validation_T"] == meta["T"]
    assert fair == {name: value for name, value in parent.items() if name not in validated}
    assert all(meta[name] == fair[name] for name in ("plan", "augmentation", "seed", "held_out", "data"))
    assert load(pair.meta).facts["held_out"] == load(pair.fair.checkpoint).facts["held_out"]
    first, second = (load(folder / name / "last.safetensors").facts for name in ("parent", "fair_parent"))
    assert first["data_hash"] == second["data_hash"]
    assert pair.fair.seconds > 0
    assert pair.meta_seconds > 0


@pytest.mark.slow
def test_the_table(pair: Pair, comparison: Comparison, tmp_path: Path) -> None:
    rows = compare([pair], comparison, tmp_path / "out")
    assert {(row["method"], row["T"]) for row in rows} == {(method, T) for method in (META, FAIR) for T in (0, 2, 3)}
    assert len(rows) == 2 * 3 * 6  # six objects
    summary = pq.read_table(tmp_path / "out" / "comparison.parquet").to_pylist()
    for row in summary:
        own = [r["j_and_f"] for r in rows if (r["method"], r["T"]) == (row["method"], row["T"])]
        assert row["j_and_f"] == pytest.approx(np.mean(own))
        assert row["objects"] == 6
    text = (tmp_path / "out" / "comparison.md").read_text()
    at_3 = next(row for row in summary if (row["method"], row["T"]) == (META, 3))
    line = next(line for line in text.splitlines() if line.startswith("| 3 |"))
    assert f"| {100 * at_3['j_and_f']:.1f} ± {100 * at_3['j_and_f_se']:.1f} |" in line
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("predictions/*/*/*.png")}
    assert before
    assert [r["j_and_f"] for r in compare([pair], comparison, tmp_path / "out")] == [r["j_and_f"] for r in rows]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("predictions/*/*/*.png")} == before


@pytest.mark.slow
def test_a_fair_parent_that_took_long_enough_stays(pair: Pair, meta: MetaTraining, comparison: Comparison) -> None:
    """The other two took another time than when its steps were decided on, as if meta-training had been done again."""
    folder = pair.meta.parent.parent
    progress = {name: (folder / name / "progress.jsonl").read_text() for name in ("parent", "meta")}

    def pair_with(**seconds: float) -> Pair:
        for name, text in progress.items():
            rows = [json.dumps(json.loads(line) | {"seconds": seconds[name]}) for line in text.splitlines()]
            (folder / name / "progress.jsonl").write_text("".join(f"{row}\n" for row in rows))
        return train_pair(_parent(meta), meta, comparison, folder)

    try:
        again = pair_with(parent=0.001, meta=0.01)
        with pytest.raises(BadInput, match=r"fair_parent: holds a run that differs in outer\.steps"):
            pair_with(parent=0.001, meta=1000.0)
    finally:
        for name, text in progress.items():
            (folder / name / "progress.jsonl").write_text(text)
    assert again.candidates == pair.candidates


def test_seeds_that_are_done_stay_in_the_table(tmp_path: Path) -> None:
    done = {0: ("meta", "fair_parent"), 3: ("meta",), 5: ("fair_parent",), 12: ("meta", "fair_parent")}
    for seed, names in done.items():
        for name in ("meta", "fair_parent"):
            folder = tmp_path / f"seed-{seed}" / name
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps({"seed": seed}))
            if name in names:
                (folder / "complete").touch()
    assert sorted(finished_seeds(tmp_path)) == [0, 12]
    assert finished_seeds(tmp_path / "new") == []


def test_without_held_out_sequences_there_is_nothing_to_choose_on(training: MetaTraining, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--held-out: a comparison chooses on held-out sequences"):
        train_pair(_parent(training), training, Comparison("", ""), tmp_path)
    assert not any(tmp_path.iterdir())
