"""Notes below the table `quality`: what its columns and marks mean."""

import pandas as pd

from benchmark.claims.gates import FEWEST_IMAGES, is_distance
from benchmark.config.config import Config
from benchmark.config.settings import OFFICIAL_SHA256
from benchmark.records.names import METRIC
from paper_figures.base.frames import run_note, source_note
from paper_figures.base.style import model_label

CONSTANT = "constant"  # the model of a row that is measured beside the real images
LOOSE_SHARE = 0.1  # of the images with weights of hardly any effective sample size


def notes_of(
    config: Config, quality: pd.DataFrame, training: pd.DataFrame, cells: pd.DataFrame
) -> list[str]:
    """Return the notes that this table needs, in the order in which they are read."""
    notes = run_note(config)
    notes.append(
        "Mean ± half of its 95% t interval over training seeds. A column's head says which real "
        "images and how many samples were compared. The real images are drawn from the training "
        "split: the floor."
    )
    names = {METRIC.fullmatch(metric)["name"] for metric in quality.get("metric", [])}
    if "fd_classifier" in names:
        notes.append(
            "FD-classifier, lower is better, is a Frechet distance over the features of a "
            "classifier trained on the same training split; it is not FID. Precision and recall "
            "are the shares of samples near real images and of real images near samples, in the "
            "same features."
        )
    if "fd_efficientnet" in names:
        notes.append(
            "FD-EfficientNet, lower is better, is a Frechet distance over the features of an "
            "ImageNet network, EfficientNet-Lite0; it is not FID either."
        )
    if any("(train " in column for column in cells):
        notes.append(
            "Beside train the real images are no floor: it holds the same images. It is the whole "
            "training set, what is held back for validation included."
        )
    if _lacks_fid(config, quality):
        notes.append(
            "FID and KID are empty where Inception's weights were not there when the images were "
            "measured."
        )
    if "bits_per_dimension" in names:
        notes.append(
            "Bits per dimension: of the 8-bit values of so many images, lower is better. The "
            "evidence is estimated by importance sampling, from Laplace approximations of the "
            "posterior for KAEM and from the encoder for VAEs, with equally many decoder passes "
            "per image. Both err towards more bits. Only at equal sigma do they compare models."
        )
    if "bits_per_dimension_fitted" in names:
        notes.append(
            "Fitted sigma: the one at which the trained decoder explains held-back images best."
        )
    if CONSTANT in set(quality.get("model", [])):
        notes.append("The constant image is the mean of the training images, with its best sigma.")
    if len(training) and training.filter(regex="^final_(ess|swap_)").size:
        notes.append(
            "ESS: effective sample size of the importance weights. Swaps: acceptance of replica "
            "exchange across each gap, from the prior to the posterior. Over the last 5% of the "
            "updates."
        )
    text = " ".join(cells.astype(str).to_numpy().flatten())
    if "‡" in text:
        notes.append(
            f"‡ for more than {LOOSE_SHARE:.0%} of the images hardly any weight counts (effective "
            "sample size below 2): the true value is lower, by how much is not known."
        )
    if "✗" in text:
        notes.append("✗ failed a health gate of config/gates.yaml: see its row.")
    if "†" in text:
        kinds = [METRIC.fullmatch(metric)["name"] for metric in quality["metric"]]
        fewest = quality["images"][[is_distance(kind) for kind in kinds]].min()
        notes.append(f"† from {fewest:,} images, fewer than {FEWEST_IMAGES:,}: not comparable.")
    return notes + _classifier_note(config, quality) + source_note(quality, training)


def _classifier_note(config: Config, quality: pd.DataFrame) -> list[str]:
    """Return a line where some rows do not say which classifier they were measured with.

    It names these rows, or those that do where they are fewer.
    """
    if not len(quality):
        return []
    rows = quality.groupby(["dataset", "model"], sort=False)["classifier"]
    says = rows.agg(lambda digests: digests.notna().all())
    silent, others = list(says[~says].index), list(says[says].index)
    if not silent or not others:
        return []
    if len(silent) <= len(others):
        who, fewer = "The records of these rows", silent
    else:
        who, fewer = "The records of all rows but these", others
    names = [f"{model_label(config, m)} ({config.facts(d).title})" for d, m in fewer]
    return [
        f"{who}, made by an earlier version of the code, do not say which classifier they were "
        f"measured with, perhaps another training of the same one: {', '.join(names)}."
    ]


def _lacks_fid(config: Config, quality: pd.DataFrame) -> bool:
    """Say whether some images were measured without the FID that they should have."""
    if not len(quality):
        return False
    has_fid = {name: config.inception_sha256(name) == OFFICIAL_SHA256 for name in config.datasets}
    wanted = quality[quality["dataset"].map(has_fid)]
    is_fid = wanted["metric"].str.match(r"fid_(train|validation|test)_")
    jobs = [wanted[key] for key in ("dataset", "model", "seed")]
    return not is_fid.groupby(jobs).any().all()
