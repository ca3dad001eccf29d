"""Table `independence`: what the independence of a KAEM's latents costs its samples."""

import pandas as pd

from benchmark.base.errors import MissingError
from benchmark.config.config import Config
from benchmark.config.job_settings import INSPECTION
from paper_figures.base.artefact import Need, Table
from paper_figures.base.frames import independence_records, run_note, source_note
from paper_figures.base.style import Contents, model_label

TABLE = Table(
    "independence",
    needs=(Need("inspection", only=lambda _config, job: job.settings.classifier != ""),),
    caption="What the independence of KAEM's latents costs: decoded draws of the aggregated "
    "posterior, the same with each latent shuffled, and draws of the prior, by FD-classifier.",
)

COLUMNS = {
    "fd_images": "Images themselves",
    "fd_posterior": "Posterior draws",
    "fd_shuffled": "Each latent shuffled",
    "fd_prior": "Prior draws",
}


def render(config: Config) -> None:
    """Write tables/independence.{csv,md,tex}."""
    contents(config).save(TABLE.paths(config.run))


def contents(config: Config) -> Contents:
    """Return what the table says, of the first seed; a row for what was measured.

    Raises:
        MissingError: it was measured nowhere.
    """
    records = independence_records(config)
    if not len(records):
        raise MissingError(
            f"{config.run}: nobody asked what the independence of the latents costs\n"
            "  It takes a dataset with classes and enough images; then run the step `inspect`."
        )
    cells, files = [], []
    for row in records.to_dict("records"):
        dataset, model = row["dataset"], row["model"]
        cells.append(
            {"Dataset": config.facts(dataset).title, "Model": model_label(config, model)}
            | {column: f"{row[name]:.1f}" for name, column in COLUMNS.items()}
        )
        files.append({column: [row["file"]] for column in COLUMNS.values()})
    notes = run_note(config)
    notes += [
        f"FD-classifier of {INSPECTION['decoded']:,} images each, fewer than in the table of "
        "quality; lower is better. Posterior draws: one of each of so many training images, "
        "decoded. Each latent shuffled: the same draws with every latent in an order of its own, "
        "which keeps its density and breaks all dependence. Prior draws: independent by "
        "construction, but for a copula. The first seed.",
        *source_note(records),
    ]
    frame = records[["dataset", "model", *COLUMNS]]
    return Contents(frame, pd.DataFrame(cells), notes, files)
