"""One look for everything: names, order and colours of models, figure style, and files."""

import json
from itertools import cycle

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from benchmark.base import paths
from benchmark.base.files import atomic
from benchmark.config.config import REAL, Config

LABELS = {
    REAL: "real images",
    "kaem_is": "KAEM-IS",
    "kaem_ula": "KAEM-ULA",
    "kaem_thermo": "KAEM-thermo",
    "kaem_is_univariate": "KAEM-IS, univariate",
    "kaem_ula_univariate": "KAEM-ULA, univariate",
    "kaem_thermo_univariate": "KAEM-thermo, univariate",
    "vae": "VAE",
    "sigma_vae": "sigma-VAE",
    "two_stage_vae": "two-stage VAE",
    "latent_ebm": "latent EBM",
    "latent_ebm_gaussian": "latent EBM, without prior steps",
    "pixel_ebm": "pixel EBM",
    "ddpm": "DDPM",
    "ddpm_1000": "DDPM-1000",
    **{f"ddim_{steps}": f"DDIM-{steps}" for steps in (10, 20, 50, 100)},
}

FULL = 7.0  # inches, both columns of a two-column paper

PRIOR_BEFORE = "0.6"
MOST_PANELS, PANEL_COLUMNS = 16, 4


def use_style() -> None:
    """Set seaborn's and matplotlib's defaults for every figure."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="colorblind",
        rc={
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "pdf.fonttype": 42,  # text stays text
            "savefig.dpi": 200,
        },
    )


def model_label(config: Config, model: str) -> str:
    """What entry `model` is called in tables and figures."""
    return config.label(model) or LABELS.get(model, model)


def dataset_label(config: Config, dataset: str) -> str:
    """What a dataset is called in tables and figures."""
    return config.facts(dataset).title


def model_colours(config: Config) -> dict[str, tuple]:
    """A colour per entry; registered models keep theirs in every run, variants take the rest."""
    fixed = [model for model in LABELS if model != REAL]
    names = fixed + [model for model in config.models if model not in fixed]
    palettes = ("colorblind", "dark", "bright")
    colours = [colour for name in palettes for colour in sns.color_palette(name, 10)]
    return dict(zip(names, cycle(colours), strict=False))


def latent_symbol(config: Config, model: str) -> str:
    """What stands for one entry of the decoder's input: a sum, with the univariate prior."""
    return "$h_q$" if config.architecture(model).endswith("univariate") else "$z_q$"


def latent_panels(count: int, height: float = 1.15) -> tuple[Figure, list]:
    """A figure with a small panel for each of the first latents, `MOST_PANELS` at most."""
    shown = min(count, MOST_PANELS)
    rows = -(-shown // PANEL_COLUMNS)
    figure, axes = plt.subplots(
        rows, PANEL_COLUMNS, figsize=(FULL, height * rows + 0.6), squeeze=False
    )
    for axis in axes.flat[shown:]:
        axis.set_axis_off()
    for axis in axes.flat[:shown]:
        axis.set_yticks([])
    return figure, list(axes.flat[:shown])


def save_figure(figure: Figure, config: Config, name: str) -> None:
    """Write a figure of the configuration's run, see `write_figure`."""
    write_figure(figure, config.run, name)


def fix_layout(figure: Figure) -> None:
    """Lay a figure out, and keep it so: finding a layout takes longer than drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def write_figure(figure: Figure, run: str, name: str) -> None:
    """Write a figure as PDF and PNG; the same figure gives the same bytes."""
    fix_layout(figure)
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        path = paths.fill(paths.FIGURE, run, figure=name, format=kind)
        with atomic(path) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata)


def save_table(
    values: pd.DataFrame,
    cells: pd.DataFrame,
    config: Config,
    name: str,
    notes: list[str],
    files: list[dict[str, list[str]]] | None = None,
) -> None:
    """Write a table of the configuration's run, see `write_table`, and where each cell is from.

    Args:
        files: for each row of `cells`, column -> the records that the cell rests on; written to
            tables/<name>.files.json with the row's own texts.
    """
    write_table(values, cells, config.run, name, notes)
    if files is not None:
        rows = [
            {"row": row, "files": {column: sorted(set(names)) for column, names in each.items()}}
            for row, each in zip(cells.to_dict("records"), files, strict=True)
        ]
        path = paths.fill(paths.TABLE, config.run, table=name, format="files.json")
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def write_table(
    values: pd.DataFrame, cells: pd.DataFrame, run: str, name: str, notes: list[str]
) -> None:
    """Write a table three times.

    Args:
        values: the numbers, for the csv.
        cells: the same as formatted text, for md and tex.
        notes: lines below the table.
    """
    texts = {
        "csv": values.to_csv(index=False),
        "md": cells.to_markdown(index=False, disable_numparse=True)
        + "\n"
        + "".join(f"\n{note}\n" for note in notes),
        "tex": _latex(cells, notes),
    }
    for kind, text in texts.items():
        path = paths.fill(paths.TABLE, run, table=name, format=kind)
        with atomic(path) as temporary:
            temporary.write_text(text)


def _latex(cells: pd.DataFrame, notes: list[str]) -> str:
    """A booktabs table; plus-minus and dagger as LaTeX writes them."""
    table = cells.to_latex(index=False, escape=True, column_format="l" * len(cells.columns))
    symbols = {"±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "✗": r"$\times$"}
    lines = (line for note in notes for line in note.splitlines())
    comments = "".join(f"% {line}\n" for line in lines)
    for symbol, command in symbols.items():
        table = table.replace(symbol, command)
    return table + comments


GAP = 2  # pixels between images


def tiled(images: np.ndarray, gap: int = GAP) -> np.ndarray:
    """uint8 (rows, columns, C, H, W) as one picture, (height, width) or (height, width, 3)."""
    rows, columns, channels, height, width = images.shape
    picture = np.full((rows, height + gap, columns, width + gap, channels), 255, np.uint8)
    picture[:, :height, :, :width] = images.transpose(0, 3, 1, 4, 2)
    picture = picture.reshape(rows * (height + gap), columns * (width + gap), channels)
    picture = picture[: picture.shape[0] - gap, : picture.shape[1] - gap]
    return picture[..., 0] if channels == 1 else picture
