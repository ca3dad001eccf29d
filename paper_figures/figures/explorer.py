"""Page `explorer.html`: drag along the learned densities and watch the decoded image change.

One file that opens from the disk. The images were decoded by `python -m benchmark inspect`; the
page shows them and computes nothing.
"""

import base64
import io

import numpy as np
from PIL import Image

from benchmark.base.errors import BenchmarkError, MissingError
from benchmark.base.files import atomic
from benchmark.config.config import Config
from paper_figures.base.artefact import Need, Page
from paper_figures.base.frames import inspected_models, inspection
from paper_figures.base.html import fill
from paper_figures.base.style import latent_symbol, model_colours, model_label, tiled

PAGE = Page(
    "explorer",
    needs=(Need("inspection", ("record", "arrays")),),
    caption="Drag along the learned densities and watch the decoded image change.",
    category="Latents",
    sources=("paper_figures/figures/explorer.html",),
)

CURVE_POINTS, BINS = 80, 40


def render(config: Config) -> None:
    """Write the page.

    Raises:
        BenchmarkError: no KAEM entry, or none of them inspected.
    """
    if not config.inspected_models:
        raise BenchmarkError(f"{config.run}: no entry of the configuration is a KAEM to explore")
    datasets = [
        {
            "title": config.facts(dataset).title,
            "models": [_model(config, model, *inspected) for model, inspected in models.items()],
        }
        for dataset, models in _inspections(config).items()
    ]
    (path,) = PAGE.paths(config.run)
    with atomic(path) as temporary:
        page = fill("figures/explorer.html", data={"run": config.run, "datasets": datasets})
        temporary.write_text(page, encoding="utf-8")


def _inspections(config: Config) -> dict[str, dict[str, tuple[dict, dict]]]:
    """Return dataset -> model -> metrics and arrays, of the datasets that have any."""
    inspections, missing = {}, []
    for dataset in config.datasets:
        try:
            models = inspected_models(config, dataset)
        except MissingError as error:
            missing.append(error)
        else:
            inspections[dataset] = {model: inspection(config, dataset, model) for model in models}
    if not inspections:
        raise missing[0]
    return inspections


def _model(config: Config, model: str, metrics: dict, arrays: dict) -> dict:
    moved = arrays["moved"]
    height, width = arrays["images"].shape[-2:]
    return {
        "label": model_label(config, model),
        "colour": "#" + "".join(f"{round(255 * c):02x}" for c in model_colours(config)[model]),
        "symbol": latent_symbol(config, model),
        "latents": [_latent(metrics, arrays, m, int(q)) for m, q in enumerate(moved)],
        "latents_in_all": len(metrics["sobol_total"]),
        "bases": _rounded(arrays["bases"][:, moved]),
        "followed": _rounded(arrays.get("followed_latents", np.empty(0))),
        "components": _components(arrays),
        "size": [width, height],
    } | _sprite(arrays)


def _latent(metrics: dict, arrays: dict, m: int, q: int) -> dict:
    points = arrays["points"][q]
    edges = np.linspace(points[0], points[-1], BINS + 1)
    posterior, _ = np.histogram(arrays["posterior_draws"][..., q], bins=edges, density=True)
    z = np.linspace(points[0], points[-1], CURVE_POINTS)
    return {
        "q": q + 1,
        "share": round(metrics["sobol_total"][q], 4),
        "range": _rounded(points[[0, -1]]),
        "prior": _rounded(np.interp(z, points, arrays["prior"][q])),
        "posterior": _rounded(posterior),
        "positions": _rounded(arrays["positions"][m]),
    } | _formula(metrics, q)


def _formula(metrics: dict, q: int) -> dict:
    """Return the formula of a mixture's latent; the univariate prior has several in a sum."""
    rows = [row for row in metrics["formulas"] if row["latent"] == [q]]
    return {"formula": rows[0]["formula"], "error": rows[0]["relative_error"]} if rows else {}


def _components(arrays: dict) -> list[dict]:
    """Return what a copula's components are, the heaviest first; none for an entry without one."""
    rows = []
    for k in _by_weight(arrays):
        row = {"weight": round(float(arrays["component_weights"][k]), 4)}
        # Each class's numbers sum to one: they are shares of images with as many of each class.
        held = arrays["component_classes"][k] if "component_classes" in arrays else np.zeros(1)
        if held.sum() > 0:
            row["class"] = int(np.unique(arrays["labels"])[held.argmax()])
            row["share"] = round(float(held.max() / held.sum()), 4)
        rows.append(row)
    return rows


def _by_weight(arrays: dict) -> np.ndarray:
    return np.argsort(-arrays.get("component_weights", np.empty(0)), kind="stable")


def _sprite(arrays: dict) -> dict:
    """Return a PNG as text, and the rows where its parts begin: "moved" and "followed" have a row
    per draw and latent with its positions; "draws" and "components" fill rows of that length."""
    parts = {"moved": arrays["images"], "draws": arrays["base_images"]}
    if "followed" in arrays:
        parts["followed"] = arrays["followed"]
        parts["components"] = arrays["component_images"][_by_weight(arrays)]
    columns = arrays["images"].shape[2]
    grids = [_in_rows(images, columns) for images in parts.values()]
    held = io.BytesIO()
    Image.fromarray(tiled(np.concatenate(grids), gap=0)).save(held, "PNG", optimize=True)
    starts = np.cumsum([0, *map(len, grids[:-1])]).tolist()
    rows = dict(zip(parts, starts, strict=True))
    return {"sprite": base64.b64encode(held.getvalue()).decode(), "rows": rows}


def _in_rows(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay (..., C, H, W) out as (rows, columns, C, H, W), black where the last row has no more."""
    flat = images.reshape(-1, *images.shape[-3:])
    padded = np.pad(flat, [(0, -len(flat) % columns), (0, 0), (0, 0), (0, 0)])
    return padded.reshape(-1, columns, *flat.shape[1:])


def _rounded(values: np.ndarray) -> list:
    return np.round(values.astype(float), 4).tolist()
