"""What lies in a run's folder and is not what its configuration asks for, whoever remembers what.

The files themselves say of which settings and images they are. This module loads no torch, unless
the files of images without known digests have changed.
"""

import numpy as np

from benchmark.base import paths
from benchmark.base.arrays import UNREADABLE
from benchmark.base.errors import DataError, RecordError
from benchmark.config.config import Config
from benchmark.config.jobs import Job
from benchmark.data.distributions import find_source
from benchmark.records.record import read_record


def is_done(config: Config, job: Job) -> bool:
    """Say whether a job's result is there, whole as far as a glance tells, and not outdated."""
    if job.kind == "data":
        there = config.found_images(job.dataset) is not None
    else:
        there = written_hash(job) is not None
    return there and not is_outdated(config, job)


def is_outdated(config: Config, job: Job) -> bool:
    """Say whether a job's result is there and of other settings or images, or whether its images
    can now be compared in more features. What is damaged is refused where it is read."""
    if job.kind == "data":
        found = config.found_images(job.dataset)
        settings = found is not None and found.config_hash != job.config_hash
        return settings or images_changed(config, job.dataset)
    written = written_hash(job)
    if written is None:
        return False
    return written != job.config_hash or (job.kind == "metrics" and _lacks_inception(config, job))


def written_hash(job: Job) -> str | None:
    """Return the hash of the job that wrote the result; None where it is not there, or damaged."""
    try:
        if job.kind != "sampling":
            return read_record(job.path()).config_hash
        with np.load(job.path("samples"), allow_pickle=False) as samples:
            return str(samples["config_hash"])
    except (RecordError, *UNREADABLE):
        return None


def _lacks_inception(config: Config, job: Job) -> bool:
    """Say whether images were measured without Inception's weights, which are there by now."""
    if not paths.inception_weights(paths.data_root(config.data_root)).is_file():
        return False
    return read_record(job.path()).metrics.inception_missing is not None


def images_changed(config: Config, dataset: str) -> bool:
    """Say whether images without known digests are others than those that the run found."""
    facts, found = config.facts(dataset), config.found_images(dataset)
    if found is None or facts.has_digests:
        return False
    try:
        source = find_source(facts, paths.data_root(config.data_root))
    except DataError:  # not there: what was made of them stands
        return False
    if source.stamp() == found.stamp:
        return False
    from benchmark.data.prepared import found_digests, open_prepared, prepared_name

    opened = open_prepared(paths.cache_root(config.data_root) / prepared_name(facts, source))
    try:
        digests = opened[2] if opened else found_digests(facts, source)
    except DataError:  # the step itself says what is wrong with them
        return True
    return digests != found.digests
