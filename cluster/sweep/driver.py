"""Sweeps over test-time settings: Ray Tune tries them; a table, the front of J&F against speed, one to recommend."""

import os
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from cluster import run_folder
from cluster.evaluation.setup import checkpoint_and_journal, chosen, connect_for, resolved
from cluster.evaluation.tasks import tasks_at_once
from cluster.failures import failure
from cluster.sweep.config import Sweep
from cluster.sweep.progress import SweepProgress, suggested
from cluster.sweep.results import SweepResults, results_of, write_results
from cluster.sweep.rungs import SECONDS, SEQUENCES, ParetoRungs
from cluster.sweep.space import Setting, settings
from cluster.sweep.trial import CACHE, SETTING, SharedByTrials, evaluation_of, run_trial
from cluster.tracking.background import BackgroundTracker
from cluster.tracking.logged_run import RunFacts, logged_run
from cluster.tracking.provenance import run_of, run_tags
from cluster.tracking.run import Tracker, check_answers, tracking_uri
from eosvos.data.parquet import open_dataset
from eosvos.draws import Stream
from eosvos.learning.optimization import Optimization

FREE = ("out", "target_fps", "target_score", "cache_gib")
"""What may differ when a sweep goes on."""
TUNE = "tune"
"""Ray Tune's own folder in a sweep's; what counts is in the journals, so it is thrown away."""
OPTUNA_COHORT = 8
"""Optuna's suggestions that are tried together, and compared at the rungs before it suggests more."""
RETRIES = 2


def sweep(config: Sweep, console: Console) -> SweepResults:
    """Tries the settings of a space, or what is missing of it in the sweep's folder.

    Written to ``out``: what every setting gives as it is found (``trials``), and at the end ``sweep`` as Parquet and
    CSV, ``sweep.md``, ``figures`` and ``recommended.json``; to MLflow a run with a child for each setting.

    Raises:
        BadInput: a space, checkpoint, dataset, cluster or tracking address that cannot be used, or another sweep at
            work in the folder.
        PartsFailed: some settings have no result.
    """
    config = resolved(config)
    assert config.out is not None
    uri = tracking_uri()
    check_answers(uri)
    to_try = settings(config.space, draws_each_value=config.search == "optuna")
    hardest = evaluation_of(config, max(to_try, key=lambda setting: setting.T))
    dataset = open_dataset(config.data)
    indices = chosen(dataset, hardest)
    optimization, journal = checkpoint_and_journal(hardest, dataset)
    run_folder.check(config.out, config, free=FREE)
    connect_for(hardest)
    order = tuple(int(index) for index in Stream.SEQUENCE_ORDER.numpy(config.seed).permutation(indices))
    shared = SharedByTrials(config, dataset, order, journal.inputs)
    tags = run_tags(dataset.hash, world_size=str(tasks_at_once(hardest)), checkpoint_run=run_of(config.checkpoint))
    data = ((config.data, dataset.hash, "evaluation"),)
    facts = RunFacts("sweep", config.out.name, config, journal.inputs, tags, data)
    with (
        run_folder.claimed(config.out, config, free=FREE),
        logged_run(uri, config.out, facts) as background,
    ):
        background.do(Tracker.watch_system)
        progress = _tune(config, to_try, shared, optimization, background, console)
        failed = {setting.name: error for setting, error in progress.failed.items()}
        if failed and len(failed) == len(progress.tried):
            raise failure(failed, len(failed), "settings")
        results = results_of(shared, progress.tried, progress.failed)
        for path in write_results(shared, results, console):
            place = None if path.parent == config.out else path.parent.name
            background.do(partial(Tracker.artifact, path=path, folder=place))
        background.do(lambda tracker: tracker.metrics([(0, results.counts)], timestamp=0))
        if failed:
            raise failure(failed, len(progress.tried), "settings")
        shutil.rmtree(config.out / CACHE, ignore_errors=True)
    return results


def _tune(
    config: Sweep,
    to_try: Sequence[Setting],
    shared: SharedByTrials,
    optimization: Optimization,
    background: BackgroundTracker,
    console: Console,
) -> SweepProgress:
    """Runs all trials, or what their journals lack."""
    assert config.out is not None
    if config.search == "random":
        drawn = Stream.RANDOM_SEARCH.numpy(config.seed).permutation(len(to_try))[: config.samples]
        to_try = [to_try[index] for index in sorted(drawn)]
    total = config.samples if config.search == "optuna" else len(to_try)
    progress = SweepProgress(shared, total, background, console)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, shared=shared, optimization=optimization),
        # The trial itself waits; its tasks, one after another, take the second bundle.
        tune.PlacementGroupFactory([{}, {"CPU": config.threads_per_task, "GPU": config.gpus_per_task}]),
    )
    searcher, space = _searcher(config, to_try)
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
            storage_path=str(config.out),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[progress],
            verbose=0,
        ),
    )
    shutil.rmtree(config.out / TUNE, ignore_errors=True)
    # Tune would take the first interrupt for a wish to see what there is, and print a header whatever its verbosity.
    os.environ |= {"TUNE_DISABLE_SIGINT_HANDLER": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    tuner.fit()
    shutil.rmtree(config.out / TUNE, ignore_errors=True)
    return progress


def _searcher(config: Sweep, to_try: Sequence[Setting]) -> tuple[Searcher | None, dict[str, Any]]:
    """Who suggests settings, and the space that Tune draws from where that is itself."""
    values = config.space.values
    if config.search != "optuna":
        points = [
            {name: setting.T if name == "T" else getattr(setting.segmentation, name) for name in values}
            for setting in to_try
        ]
        return None, {SETTING: tune.grid_search(points)}
    several = config.objective == "front"
    assert config.out is not None
    before = suggested(config.out)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = OptunaSearch(
        {f"{SETTING}/{name}": optuna.distributions.CategoricalDistribution(own) for name, own in values.items()},
        metric=["j_and_f", SECONDS] if several else "j_and_f",
        mode=["max", "min"] if several else "max",
        points_to_evaluate=[{f"{SETTING}/{name}": value for name, value in own.items()} for own in before],
        seed=config.seed + len(before),  # what was suggested before is not drawn again
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
