"""Sweeps over test-time settings: Ray Tune tries them; a table, the front of J&F against speed, one to recommend."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch

from cluster import run_folder
from cluster.evaluation.setup import PLACEMENT, choose_sequences, connect_for, open_checkpoint, resolve
from cluster.evaluation.tasks import tasks_at_once
from cluster.failures import failure
from cluster.sweep.config import Sweep
from cluster.sweep.progress import SweepProgress, read_suggestions
from cluster.sweep.results import SweepResults, results_of, write_results
from cluster.sweep.rungs import SECONDS, SEQUENCES, ParetoRungs
from cluster.sweep.space import Setting, setting_of, settings
from cluster.sweep.trial import CACHE, SETTING, SharedByTrials, evaluation_of, run_trial
from cluster.tracking.background import BackgroundTracker
from cluster.tracking.logged_run import RunFacts, logged_run
from cluster.tracking.provenance import run_of, run_tags
from cluster.tracking.run import Tracker, check_answers, tracking_uri
from eosvos.data.parquet import open_dataset
from eosvos.draws import Stream
from eosvos.learning.optimization import Optimization
from eosvos.paths import absolute_path

FREE = ("out", "target_fps", "target_score", "cache_gib")
"""What may differ when a sweep resumes; folders of older versions have ``out``."""
TUNE = "tune"
"""Ray Tune's folder in a sweep's; what counts is in the journals, so it is thrown away."""
OPTUNA_COHORT = 8
"""Optuna's suggestions that are tried together, and compared at the rungs before it suggests more."""
RETRIES = 2


def sweep(config: Sweep, folder: Path) -> SweepResults:
    """Tries the settings of a space, or what is missing of it in the sweep's folder.

    Written to ``folder``: what every setting gives as it is found (``trials``), and at the end ``sweep`` as Parquet and
    CSV, ``sweep.md``, ``figures`` and ``recommended.json``; to MLflow a run with a child for each setting.

    Raises:
        BadInput: a space, checkpoint, dataset, cluster or tracking address that cannot be used, or another sweep at
            work in the folder.
        PartsFailed: some settings have no result.
    """
    config, folder = replace(config, subject=resolve(config.subject)), absolute_path(folder, "--out")
    subject = config.subject
    uri = tracking_uri()
    check_answers(uri)
    to_try = settings(config.space, draws_each_value=config.search == "optuna")
    hardest = evaluation_of(config, max(to_try, key=lambda setting: setting.T))
    dataset = open_dataset(subject.data)
    indices = choose_sequences(dataset, subject)
    optimization, inputs = open_checkpoint(hardest, dataset)
    run_folder.check(folder, config, free=FREE)
    order = tuple(int(index) for index in Stream.SEQUENCE_ORDER.numpy(subject.seed).permutation(indices))
    shared = SharedByTrials(config, folder, dataset, order, inputs)
    _check_trials(to_try, shared)
    connect_for(subject)
    tags = run_tags(dataset.hash, world_size=str(tasks_at_once(subject)), checkpoint_run=run_of(subject.checkpoint))
    data = ((subject.data, dataset.hash, "evaluation"),)
    facts = RunFacts("sweep", folder.name, config, inputs, tags, data)
    with (
        run_folder.claimed(folder, config, free=FREE),
        logged_run(uri, folder, facts) as background,
    ):
        background.do(Tracker.watch_system)
        tried, errors = _tune(to_try, shared, optimization, background)
        failed = {setting.name: error for setting, error in errors.items()}
        if failed and len(failed) == len(tried):
            raise failure(failed, len(failed), "settings")
        results = results_of(shared, tried, errors)
        for path in write_results(shared, results):
            place = None if path.parent == folder else path.parent.name
            background.do(partial(Tracker.artifact, path=path, folder=place))
        background.do(lambda tracker: tracker.metrics([(0, results.counts)], timestamp=0))
        if failed:
            raise failure(failed, len(tried), "settings")
        shutil.rmtree(folder / CACHE, ignore_errors=True)
    return results


def _check_trials(to_try: Sequence[Setting], shared: SharedByTrials) -> None:
    """Refuses what an older version found in another way, which a sweep's configuration does not say, a trial's does.

    Raises:
        BadInput: such a trial is there.
    """
    for setting in to_try:
        folder = shared.journal(setting).folder
        if (folder / run_folder.CONFIG_FILE).is_file():
            run_folder.check(folder, evaluation_of(shared.sweep, setting), free=PLACEMENT)


def _tune(
    to_try: Sequence[Setting], shared: SharedByTrials, optimization: Optimization, background: BackgroundTracker
) -> tuple[list[Setting], dict[Setting, Exception]]:
    """Runs all trials, or what their journals lack.

    Returns:
        the settings in the order in which their trials began; of those that have no result, what was raised.
    """
    config, subject = shared.sweep, shared.sweep.subject
    if config.search == "random":
        drawn = Stream.RANDOM_SEARCH.numpy(subject.seed).permutation(len(to_try))[: config.samples]
        to_try = [to_try[index] for index in sorted(drawn)]
    total = config.samples if config.search == "optuna" else len(to_try)
    progress = SweepProgress(shared, total, background)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, shared=shared, optimization=optimization),
        # The trial itself waits; its tasks, one after another, take the second bundle.
        tune.PlacementGroupFactory([{}, {"CPU": subject.threads_per_task, "GPU": subject.gpus_per_task}]),
    )
    searcher, space = _searcher(config, shared.folder, to_try)
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=_scheduler(config, total, len(shared.order)),
            num_samples=config.samples if config.search == "optuna" else 1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=TUNE,
            storage_path=str(shared.folder),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[progress],
            verbose=0,
        ),
    )
    shutil.rmtree(shared.folder / TUNE, ignore_errors=True)
    # Tune would take the first interrupt for a wish to see what there is, and print a header whatever its verbosity.
    os.environ |= {"TUNE_DISABLE_SIGINT_HANDLER": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    grid = tuner.fit()
    # Only now: while trials run, what one raised may not be where Tune looks for it yet.
    ended = [grid[index] for index in range(len(grid))]
    errors = {setting_of(one.config[SETTING]): one.error for one in ended if one.error is not None and one.config}
    shutil.rmtree(shared.folder / TUNE, ignore_errors=True)
    return list(progress.tried), errors


def _searcher(config: Sweep, folder: Path, to_try: Sequence[Setting]) -> tuple[Searcher | None, dict[str, Any]]:
    """Who suggests settings, and the space that Tune draws from where that is itself."""
    values = config.space.values
    if config.search != "optuna":
        points = [
            {name: setting.T if name == "T" else getattr(setting.segmentation, name) for name in values}
            for setting in to_try
        ]
        return None, {SETTING: tune.grid_search(points)}
    several = config.objective == "front"
    before = read_suggestions(folder)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = OptunaSearch(
        {
            f"{SETTING}/{name}": optuna.distributions.CategoricalDistribution(choices)
            for name, choices in values.items()
        },
        metric=["j_and_f", SECONDS] if several else "j_and_f",
        mode=["max", "min"] if several else "max",
        points_to_evaluate=[{f"{SETTING}/{name}": value for name, value in point.items()} for point in before],
        seed=config.subject.seed + len(before),  # what was suggested before is not drawn again
    )
    return ConcurrencyLimiter(search, max_concurrent=OPTUNA_COHORT, batch=True), {}


def _scheduler(config: Sweep, total: int, sequences: int) -> TrialScheduler:
    """Who ends trials early."""
    rungs = tuple(rung for rung in config.rungs if rung < sequences)
    if not config.stop_early or not rungs:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    if config.objective == "score":
        return AsyncHyperBandScheduler(
            time_attr=SEQUENCES,
            metric="j_and_f",
            mode="max",
            max_t=sequences,
            grace_period=rungs[0],
            reduction_factor=2,
        )
    return ParetoRungs(rungs, total, OPTUNA_COHORT if config.search == "optuna" else total)
