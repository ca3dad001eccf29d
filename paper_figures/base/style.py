"""One look for everything: names and colours of models, figure style, and files."""

import json
import textwrap
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from benchmark.base.files import atomic
from benchmark.base.markdown import markdown_table
from benchmark.config.config import REAL, Config
from benchmark.config.registry import MODELS, VARIANTS

LOOKS = MODELS | VARIANTS

FULL = 7.0  # inches, both columns of a two-column paper

TITLE = 85  # letters that a title's line has room for
PRIOR_BEFORE = "0.6"
MOST_PANELS, PANEL_COLUMNS = 16, 4

mpl.rcdefaults()  # whatever style somebody has at home
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
    """Return what entry `model` is called in tables and figures."""
    if model == REAL:
        return "real images"
    if label := config.label(model):
        return label
    shortest = config.shortest(model)
    if shortest != model:
        updates = next(n for n, m in config.budgets()[shortest].items() if m == model)
        return f"{model_label(config, shortest)}, {updates:,} updates"
    return LOOKS[model].label if model in LOOKS else model


def narrow_label(config: Config, model: str, width: int = 40) -> str:
    """Return `model_label` in lines, the first of which ends before a bracket."""
    lines = model_label(config, model).replace(" (", "\n(").split("\n")
    return "\n".join(textwrap.fill(line, width) for line in lines)


def model_colours(config: Config) -> dict[str, tuple]:
    """Return a colour per entry; those with a look of their own have the same in every run."""
    fixed = {name: to_rgb(look.colour) for name, look in LOOKS.items()}
    palettes = [sns.color_palette(name, 10) for name in ("colorblind", "dark", "bright")]
    rest = [colour for palette in palettes for colour in palette if colour not in fixed.values()]
    others = [model for model in config.models if model not in fixed]
    return fixed | dict(zip(others, cycle([*rest, *fixed.values()]), strict=False))


def latent_symbol(config: Config, model: str) -> str:
    """Return what stands for an entry of the decoder's input: a sum, with the univariate prior."""
    return "h" if config.spec(model).prior == "univariate" else "z"


def latent_panels(count: int, symbol: str, height: float = 1.15) -> tuple[Figure, list, str]:
    """Make a figure with a small panel for each of the first latents, `MOST_PANELS` at most; return
    it, the panels, and what its title says where some are left out."""
    shown = min(count, MOST_PANELS)
    rows = -(-shown // PANEL_COLUMNS)
    figure, axes = plt.subplots(
        rows, PANEL_COLUMNS, figsize=(FULL, height * rows + 0.6), squeeze=False
    )
    for axis in axes.flat[shown:]:
        axis.set_axis_off()
    for number, axis in enumerate(axes.flat[:shown]):
        axis.set_yticks([])
        if number >= shown - PANEL_COLUMNS:
            axis.set_xlabel(f"${symbol}$")
    of = "" if shown == count else f", {shown} of {count} latents"
    return figure, list(axes.flat[:shown]), of


def set_title(figure: Figure, title: str) -> None:
    """Write a title above all panels; a long one goes on in a second line after its colon."""
    figure.suptitle(title if len(title) <= TITLE else title.replace(": ", ":\n", 1))


def seed_line(axis, history: pd.DataFrame, key: str, colour, label: str) -> None:
    """Draw a logged value of one model: its mean over the seeds, and their range as a band."""
    sns.lineplot(
        data=history,
        x="update",
        y=key,
        ax=axis,
        errorbar=("pi", 100),
        lw=1.2,
        color=colour,
        legend=False,
    )
    axis.get_lines()[-1].set_label(label)


def fix_layout(figure: Figure) -> None:
    """Lay a figure out, and keep it so: finding a layout takes longer than drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save_figure(figure: Figure, paths: list[Path]) -> None:
    """Write a figure as PDF and PNG, and close it; the same figure gives the same bytes."""
    fix_layout(figure)
    metadata = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    for path in paths:
        with atomic(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], metadata=metadata[path.suffix])
    plt.close(figure)


class Contents(NamedTuple):
    """Hold what a table says.

    Attributes:
        values: the numbers, for csv.
        cells: the same as formatted text, for md and tex.
        notes: lines below the table.
        files: for each row of `cells`, column -> the records that the cell rests on; for
            files.json, with the row's own texts.
    """

    values: pd.DataFrame
    cells: pd.DataFrame
    notes: list[str]
    files: Sequence[dict[str, list[str]]] = ()

    def save(self, paths: list[Path]) -> None:
        """Write the table in the formats that the paths end in."""
        writers = {
            "csv": lambda: self.values.to_csv(index=False),
            "md": lambda: _markdown(self.cells, self.notes),
            "tex": lambda: _latex(self.cells, self.notes),
            "files.json": lambda: _origins(self.cells, self.files),
        }
        for path in paths:
            with atomic(path) as temporary:
                temporary.write_text(writers[path.name.partition(".")[2]](), encoding="utf-8")


def _markdown(cells: pd.DataFrame, notes: list[str]) -> str:
    return markdown_table(cells) + "\n" + "".join(f"\n{note}\n" for note in notes)


def _origins(cells: pd.DataFrame, files: Sequence[dict[str, list[str]]]) -> str:
    rows = [
        {"row": row, "files": {column: sorted(set(names)) for column, names in origins.items()}}
        for row, origins in zip(cells.to_dict("records"), files, strict=True)
    ]
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)  # a line each: there are many
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _latex(cells: pd.DataFrame, notes: list[str]) -> str:
    """Write a booktabs table, with plus-minus and dagger as LaTeX has them."""
    table = cells.to_latex(index=False, escape=True, column_format="l" * len(cells.columns))
    symbols = {"±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "✗": r"$\times$"}
    lines = (line for note in notes for line in note.splitlines())
    comments = "".join(f"% {line}\n" for line in lines)
    for symbol, command in symbols.items():
        table = table.replace(symbol, command)
    return table + comments


def show_picture(axis: Axes, picture: np.ndarray) -> None:
    """Show pixels as they are, with neither frame nor ticks; labels keep their place."""
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="none")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


GAP = 2  # pixels between images
APART = 8  # pixels between groups of them


def tiled(images: np.ndarray, gap: int = GAP) -> np.ndarray:
    """Lay uint8 (rows, columns, C, H, W) out as one picture, (height, width) or with 3 channels."""
    rows, columns, channels, height, width = images.shape
    picture = np.full((rows, height + gap, columns, width + gap, channels), 255, np.uint8)
    picture[:, :height, :, :width] = images.transpose(0, 3, 1, 4, 2)
    picture = picture.reshape(rows * (height + gap), columns * (width + gap), channels)
    picture = picture[: picture.shape[0] - gap, : picture.shape[1] - gap]
    return picture[..., 0] if channels == 1 else picture


def spaced(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Join pictures of one shape along an axis, `APART` white pixels between them."""
    shape = list(pictures[0].shape)
    shape[axis] = APART
    gap = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=axis)
