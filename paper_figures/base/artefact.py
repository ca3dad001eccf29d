"""What a table, figure or page declares in its own module: name, inputs, caption, category.

Each process of a workflow reads the declarations, so nothing here imports pandas or matplotlib.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from benchmark.base import paths
from benchmark.config.config import Config
from benchmark.config.jobs import Job, jobs
from benchmark.records.drawn import forget_drawn, is_drawn, note_drawn


@dataclass(frozen=True)
class Need:
    """The jobs of one kind from whose files something is made.

    Attributes:
        kind: as `benchmark.config.jobs` has them.
        files: which of a job's files.
        only: whether a job is needed; each is where nothing is given.
        optional: whether a run without such jobs has the artefact all the same.
    """

    kind: str
    files: tuple[str, ...] = ("record",)
    only: Callable[[Config, Job], bool] = lambda _config, _job: True
    optional: bool = False

    def jobs(self, config: Config, gpu: bool) -> list[Job]:
        """Return the jobs that are needed.

        Args:
            gpu: whether there is one, for timings on "auto" devices.
        """
        return [job for job in jobs(config, self.kind, gpu=gpu) if self.only(config, job)]


def has_copula(config: Config, job: Job) -> bool:
    """Say whether a job is of a KAEM with a copula."""
    return config.has_copula(job.model)


@dataclass(frozen=True)
class Artefact:
    """A table, figure or page of a run, as its module declares it.

    Attributes:
        name: of its files. There is one for each {dataset}, {device} and {model} of the first
            need's jobs; one command makes those of all models.
        needs: what it is made from; a run that lacks one that is not optional, or that leaves the
            artefact out, does not have it.
        caption: for the workflow's report; {dataset} and {device} are filled in.
        category: its heading in the report.
        formats: endings of its files.
        sources: files of the repository that it depends on. A module names those beside itself
            and `base`; `paper_figures.artefacts` adds these.
        applies: whether a run that has what it needs has it too.
        module: the one that declares it, added by `paper_figures.artefacts`.
    """

    name: str
    needs: tuple[Need, ...] = ()
    caption: str = ""
    category: str = ""
    formats: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    applies: Callable[[Config], bool] = lambda _config: True
    module: str = ""

    folder: ClassVar[str]  # of its files, in that of the run
    shown: ClassVar[str]  # the format that the report shows

    @property
    def command(self) -> str:
        """Return what the command line and the workflow call it: its module's name."""
        return self.module.rpartition(".")[2]

    @property
    def title(self) -> str:
        """Return what the report calls it, of whatever dataset, device or model."""
        return self.name.partition("_{")[0].replace("_", " ")

    @property
    def arguments(self) -> list[str]:
        """Return what its command is told: names of placeholders."""
        return [place for place in ("dataset", "device") if f"{{{place}}}" in self.name]

    @property
    def log(self) -> str:
        """Return the pattern of its log's name."""
        return "/".join([self.command, *(f"{{{place}}}" for place in self.arguments)])

    def render(self, config: Config, **chosen: str) -> None:
        """Write its files, from the records of the configuration's run.

        Raises:
            MissingError: a record without which there is nothing to show is not there.
            RecordError: a record is damaged or belongs to another job.
        """
        step = self.log.format(**chosen)
        forget_drawn(config, step)
        import_module(self.module).render(config, **chosen)
        note_drawn(config, step, [job for _, job in self._needed(config, True, chosen)])

    def is_drawn(self, config: Config, **chosen: str) -> bool:
        """Say whether its files were made from the jobs and with the words of a configuration."""
        step = self.log.format(**chosen)
        return is_drawn(config, step, [job for _, job in self._needed(config, True, chosen)])

    def paths(self, run: str, **filled: str) -> list[Path]:
        """Return one of its files in each format, relative to the working directory."""
        folder = paths.fill(paths.RUN, run) / self.folder
        return [folder / f"{self.name.format(**filled)}.{kind}" for kind in self.formats]

    def places(self, config: Config, gpu: bool) -> list[dict[str, str]]:
        """Return the values of the placeholders, one mapping for each that a run has of it."""
        needed = [need.jobs(config, gpu) for need in self.needs]
        lacking = [n for n, own in zip(self.needs, needed, strict=True) if not (own or n.optional)]
        if lacking or self.command in config.left_out or not self.applies(config):
            return []
        names = [place for place in ("dataset", "device", "model") if f"{{{place}}}" in self.name]
        values = dict.fromkeys(tuple(getattr(job, name) for name in names) for job in needed[0])
        return [dict(zip(names, each, strict=True)) for each in values]

    def inputs(self, config: Config, gpu: bool, **chosen: str) -> list[Path]:
        """Return the files of jobs that it is made from, for the chosen dataset or device."""
        needed = self._needed(config, gpu, chosen)
        return [job.path(name) for need, job in needed for name in need.files]

    def _needed(self, config: Config, gpu: bool, chosen: dict) -> list[tuple[Need, Job]]:
        return [
            (need, job)
            for need in self.needs
            for job in need.jobs(config, gpu)
            if all(getattr(job, place) in ("", value) for place, value in chosen.items())
        ]


@dataclass(frozen=True)
class Table(Artefact):
    """A table as numbers, text and LaTeX; files.json says which records each cell rests on."""

    category: str = "Tables"
    formats: tuple[str, ...] = ("csv", "md", "tex", "files.json")

    folder: ClassVar[str] = "tables"
    shown: ClassVar[str] = "csv"


@dataclass(frozen=True)
class Figure(Artefact):
    """A drawing."""

    formats: tuple[str, ...] = ("pdf", "png")

    folder: ClassVar[str] = "figures"
    shown: ClassVar[str] = "png"


@dataclass(frozen=True)
class Film(Figure):
    """A drawing that moves."""

    formats: tuple[str, ...] = ("gif",)

    shown: ClassVar[str] = "gif"


@dataclass(frozen=True)
class Page(Artefact):
    """A web page that holds all that it shows."""

    formats: tuple[str, ...] = ("html",)

    folder: ClassVar[str] = ""
    shown: ClassVar[str] = "html"
