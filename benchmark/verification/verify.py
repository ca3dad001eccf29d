"""`python -m benchmark verify`: what the published results come to on this machine, in two minutes.

Offline, without datasets and trainings: every published file is checked, and the claims are judged
again on the records. Images of every model whose weights are published are drawn and measured
again, the models are timed in turns, and the claims are judged on what was found.
"""

import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from benchmark.base import paths
from benchmark.base.devices import available_cores
from benchmark.base.errors import BenchmarkError, RecordError
from benchmark.base.process import say
from benchmark.claims.claims import load_claims
from benchmark.claims.gates import first_reference
from benchmark.claims.judge import judge_all
from benchmark.config.config import load_config
from benchmark.config.facts import reference_count
from benchmark.config.jobs import JUDGED, job_of
from benchmark.records.folder import by_subject, own_records
from benchmark.records.record import Record, write_record
from benchmark.verification.findings import DISAGREES, Run, compare_verdicts
from benchmark.verification.integrity import differing_verdicts, faults
from benchmark.verification.page import write_pages
from benchmark.verification.redraw import CPU, Redrawn, redraw, reference_file
from benchmark.verification.retime import time_again

WORKERS = 2  # processes that draw side by side


def verify(source: Path = Path(paths.PUBLISHED)) -> Iterator[str]:
    """Verify every published run, write results/verify/ and say what was found.

    Raises:
        BenchmarkError: something that could be checked is not what was published; the pages are
            written all the same.
    """
    folders = sorted(path.parent for path in source.glob("*/config.yaml"))
    if not folders:
        raise BenchmarkError(f"{source}: no run is published there")
    target = Path(paths.RESULTS) / "verify"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".verify-") as scratch:
        unfinished = Path(scratch) / "verify"
        runs = [_checked(folder) for folder in folders]
        _draw_again(runs)
        for run in runs:
            fresh = [*_measured(run, unfinished), *_timed(run, unfinished)]
            run.judged = list(compare_verdicts(run, fresh))
        summary, problems = write_pages(unfinished, runs)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    yield from summary
    yield f"Every verdict, value and file: {target / 'index.html'}, {target / 'index.md'}"
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        back = paths.made_again(source) if any(run.faults for run in runs) else ""
        raise BenchmarkError(
            f"what was published {DISAGREES} with what was found here{lines}{back}"
        )


def _checked(folder: Path) -> Run:
    """Read a published run, check its files and judge the claims on its records."""
    say(f"{folder}: files and records")
    config = load_config(folder / "config.yaml").of_folder(folder)
    run = Run(config, folder, list(faults(config, folder)))
    try:
        run.records = by_subject(own_records(config, *JUDGED, folder=folder))
    except RecordError:  # which `faults` has said
        return run
    run.verdicts = judge_all(config, run.records, load_claims())
    run.faults += differing_verdicts(config, folder, run.verdicts)
    return run


def _draw_again(runs: list[Run]) -> None:
    """Draw the images of all models that can be drawn, in processes side by side."""
    workers = min(WORKERS, available_cores())
    spawned = multiprocessing.get_context("spawn")  # forked ones would share torch's threads
    with ProcessPoolExecutor(workers, mp_context=spawned) as pool:
        tasks: list[tuple[Run, str, str, Future[Redrawn]]] = []
        for run in runs:
            for dataset, model in _drawable(run):
                future = pool.submit(redraw, run.config, run.folder, dataset, model)
                tasks.append((run, dataset, model, future))
        for run, dataset, model, future in tasks:
            try:
                drawn = future.result()
            except RecordError as error:
                run.faults.append(str(error).splitlines()[0])
                run.undrawn[dataset, model] = "its files are at fault"
                continue
            run.drawn.append(drawn)
            say(f"{run.folder.name} · {dataset} · {model}: {drawn.images:,} images")


def _drawable(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the models with weights, and note why the others are not drawn."""
    for dataset in run.config.datasets:
        for model in run.config.evaluated_models:
            training = job_of(run.config, "training", dataset, model)
            needed = [
                training.path("weights", run.folder),
                run.folder / reference_file(dataset),
                job_of(run.config, "metrics", dataset, model).path(folder=run.folder),
            ]
            if all(path.exists() for path in needed):
                yield dataset, model
            else:
                run.undrawn[dataset, model] = "its weights are not published"


def _measured(run: Run, target: Path) -> Iterator[Record]:
    """Write a record of each model of which as many images were drawn as for the published one."""
    for drawn in run.drawn:
        if drawn.images < drawn.of:
            continue
        job = job_of(run.config, "metrics", drawn.dataset, drawn.model)
        split = first_reference(run.config, drawn.dataset)
        count = reference_count(run.config.facts(drawn.dataset).splits, split)
        values = {value.metric: value.here for value in drawn.values}
        yield write_record(
            job,
            {"classifier_sha256": drawn.classifier, f"reference_count_{split}": count} | values,
            device=CPU,
            wall_time_s=drawn.seconds,
            sample_count=drawn.images,
            path=job.path(folder=target / run.folder.name),
        )


def _timed(run: Run, target: Path) -> list[Record]:
    """Time the models of a run whose images were drawn."""
    images = {}
    for drawn in run.drawn:
        images.setdefault(drawn.dataset, drawn.timed_on)
    if not images:
        return []
    say(f"{run.folder.name}: times")
    run.timed = list(time_again(run.config, run.records, images, target / run.folder.name))
    return run.timed
