"""What tables, figures and verdicts were made from: a note beside them, to tell when to make them
anew."""

from collections.abc import Iterable
from pathlib import Path

from benchmark.base import paths
from benchmark.base.files import write_json
from benchmark.base.foreign import parse_json, read_text
from benchmark.config.config import Config
from benchmark.config.jobs import Job


def note_drawn(config: Config, step: str, jobs: Iterable[Job]) -> None:
    """Note that a step has made its files from these jobs, in this configuration's words."""
    write_json(_path(config, step), _origin(config, jobs))


def is_drawn(config: Config, step: str, jobs: Iterable[Job]) -> bool:
    """Say whether a step last made its files from these jobs, in the same words."""
    try:
        return parse_json(read_text(_path(config, step))) == _origin(config, jobs)
    except (OSError, ValueError):
        return False


def forget_drawn(config: Config, step: str) -> None:
    """Remove the note: from now on the files are others."""
    _path(config, step).unlink(missing_ok=True)


def _path(config: Config, step: str) -> Path:
    return paths.fill(paths.DRAWN, config.run, step=step)


def _origin(config: Config, jobs: Iterable[Job]) -> dict:
    folder = config.folder
    made_from = [[str(job.paths[0].relative_to(folder)), job.config_hash] for job in jobs]
    return {"wording": config.wording, "jobs": made_from}
