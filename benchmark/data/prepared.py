"""Prepared datasets: checked, split, brought to size and written to the disk, once.

A prepared folder holds `<split>.npy`, uint8 (n, C, H, W), which is mapped into memory, not read;
`<split>_labels.npy` where there are labels; and `origin.json` with the digests.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.base.arrays import UNREADABLE
from benchmark.base.devices import available_cores
from benchmark.base.errors import DataError
from benchmark.base.files import file_digest, settings_digest, write_json
from benchmark.base.foreign import parse_json
from benchmark.base.progress import show_progress
from benchmark.base.seeding import derive_seed
from benchmark.config.facts import Facts
from benchmark.data.downloads import preflight_command
from benchmark.data.image_files import BrokenImageError
from benchmark.data.pixels import to_uint8
from benchmark.data.sources import Part, Parts, Source

FORMAT = 2  # of the prepared images; a new one makes old folders unused
ORIGIN = "origin.json"
CHUNK = 1024  # images that are decoded or copied at once
LONG = 20000  # images from which on preparing them shows its progress
NAMED = 100  # broken images that a message names


def content_digest(digests: list[bytes]) -> str:
    """Return the sha256 over the sorted digests of the images, so that order is no matter."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def prepared_name(facts: Facts, source: Source) -> str:
    """Return the folder's name, with a digest of the dataset's files and facts."""
    content = [FORMAT, source.stamp(), facts.images.plain(), facts.classes]
    return f"{facts.name}-{settings_digest(content)}"


def prepare(facts: Facts, source: Source, folder: Path) -> None:
    """Write each split's images and labels, and where they come from, into an empty folder."""
    parts = source.read()
    digests = _write_parts(facts, source.place, parts, lambda part: folder / f"{part}.raw")
    contents = _contents(facts, parts, digests)
    for part, digest in contents.items():
        expected = facts.digests.get(part, digest)
        if digest != expected:
            mend = "Install the versions of requirements.lock."
            if source.files:
                command = preflight_command(facts.name)
                mend = f"Delete those files and run `{command}` to fetch them again."
            raise DataError(
                f"{facts.name}: the {part} images in {source.place} are not the expected ones\n"
                f"  expected digest {expected}\n  found           {digest}\n  {mend}"
            )
    for split, (part, rows) in split_rows(facts, digests).items():
        shape = (len(digests[part]), *facts.image_shape)
        raw = np.memmap(folder / f"{part}.raw", np.uint8, "r", shape=shape)
        _write_rows(folder / f"{split}.npy", raw, rows)
        if parts[part].labels is not None:
            np.save(folder / f"{split}_labels.npy", parts[part].labels[rows].astype(np.int64))
    for part in digests:
        (folder / f"{part}.raw").unlink()
    write_json(folder / ORIGIN, {"digests": contents, "arrays": _array_digests(folder)})


def found_digests(facts: Facts, source: Source) -> dict[str, str]:
    """Return the digests that `prepare` would find, and write nothing."""
    parts = source.read()
    digests = _write_parts(facts, source.place, parts, lambda _part: Path(os.devnull))
    return _contents(facts, parts, digests)


def _contents(facts: Facts, parts: Parts, digests: dict[str, list[bytes]]) -> dict[str, str]:
    """Return the content digest of each part; of one that is not known beforehand also that of its
    images with their labels, where it has any."""
    contents = {part: content_digest(rows) for part, rows in digests.items()}
    for part, rows in digests.items():
        if part not in facts.digests and parts[part].labels is not None:
            labelled = zip(rows, parts[part].labels, strict=True)
            labels = [d + b"%d" % label for d, label in labelled]
            contents[f"{part}_labels"] = content_digest(labels)
    return contents


def _write_parts(
    facts: Facts, place: str, parts: Parts, path_of: Callable[[str], Path]
) -> dict[str, list[bytes]]:
    """Write the parts that the splits need; return the digests of each part's images."""
    counts = {part: len(parts[part].images) if part in parts else 0 for part in facts.needed}
    if any(counts[part] < needed for part, needed in facts.needed.items()):
        wanted = [f"{counts[part]} of {n} {part} images" for part, n in facts.needed.items()]
        raise DataError(
            f"{facts.name}: {place} holds {' and '.join(wanted)} that its splits need; its "
            f"parts are {', '.join(parts)}; add images or lower `count`"
        )
    digests: dict[str, list[bytes]] = {}
    broken: list[str] = []
    for part in facts.needed:
        title = f"{facts.name} · {part} images"
        digests[part] = _write_part(facts, parts[part], path_of(part), title, broken)
    if broken:
        raise DataError(
            f"{facts.name}: {len(broken)} of {sum(counts.values())} images in {place} "
            f"cannot be decoded; fetch them again or take them out:"
            + "".join(f"\n  {each}" for each in broken[:NAMED])
            + ("\n  ..." if len(broken) > NAMED else "")
        )
    return digests


def _write_part(facts: Facts, part: Part, path: Path, title: str, broken: list[str]) -> list[bytes]:
    """Write a part's prepared images in the order of the source and return their digests.

    Decoding runs in threads; what is broken is added to `broken`, to be reported together.
    """
    digests = []
    count = len(part.images)

    def decode(index: int) -> tuple[bytes, bytes] | BrokenImageError:
        try:
            image = part.images[index]
        except BrokenImageError as error:
            return error
        return hashlib.sha256(image.tobytes()).digest(), _fitted(facts, image).tobytes()

    with (
        path.open("wb") as handle,
        ThreadPoolExecutor(available_cores()) as pool,
        show_progress(title, count, "none" if count < LONG else "auto") as report,
    ):
        for start in range(0, count, CHUNK):  # chunks bound what waits in memory
            numbers = range(start, min(start + CHUNK, count))
            for result in pool.map(decode, numbers):
                if isinstance(result, BrokenImageError):
                    broken.append(str(result))
                else:
                    digests.append(result[0])
                    handle.write(result[1])
            report(numbers.stop, {})
    return digests


def _write_rows(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Write images[rows] as an npy file: a full disk would crash a mapped one."""
    with path.open("wb") as handle:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
        np.lib.format.write_array_header_1_0(handle, header)
        for start in range(0, len(rows), CHUNK):
            handle.write(images[rows[start : start + CHUNK]].tobytes())


def _array_digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.glob("*.npy")}


def open_prepared(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict] | None:
    """Map what `prepare` wrote as (images, labels, digests); None where it is damaged."""
    images, labels = {}, {}
    try:
        origin = parse_json((folder / ORIGIN).read_text(encoding="utf-8"))
        for split in ("train", "validation", "test"):  # as everybody names them in order
            for held, file in ((images, f"{split}.npy"), (labels, f"{split}_labels.npy")):
                if file in origin["arrays"]:
                    # "c": copy on write, so that torch may think that it could write.
                    held[split] = torch.from_numpy(np.load(folder / file, mmap_mode="c"))
        return images, labels, origin["digests"]
    except (*UNREADABLE, TypeError):
        return None


def is_intact(folder: Path) -> bool:
    """Tell whether every array is still what `prepare` wrote; reads all of them."""
    try:
        origin = parse_json((folder / ORIGIN).read_text(encoding="utf-8"))
        return origin["arrays"] == _array_digests(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def split_rows(facts: Facts, digests: dict[str, list[bytes]]) -> dict[str, tuple[str, np.ndarray]]:
    """Choose the rows of a source part that make a split: split -> (part, row numbers).

    The rows of a part are sorted by their images' digests, so that the order of the files does
    not matter, then shuffled with a seed that only depends on the names, then cut in order.
    """
    orders, starts = {}, dict.fromkeys(digests, 0)
    for part, values in digests.items():
        canonical = np.array(sorted(range(len(values)), key=values.__getitem__))
        shuffle = np.random.default_rng(derive_seed("split", facts.name, part))
        orders[part] = canonical[shuffle.permutation(len(values))]
    rows = {}
    for split, cut in facts.splits.items():
        part, start = cut.part, starts[cut.part]
        rows[split] = (part, orders[part][start : start + cut.count])
        starts[part] += cut.count
    return rows


def _fitted(facts: Facts, image: np.ndarray) -> np.ndarray:
    """Turn a source image (H, W) or (H, W, C) into uint8 (C, H, W) of the dataset's size."""
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    if planes.shape == facts.image_shape:
        return planes
    if facts.layout != "scikit-learn":
        raise DataError(
            f"{facts.name}: its images have shape {image.shape} (height, width, channels), "
            f"expected {(*facts.image_shape[1:], facts.image_shape[0])}"
        )
    # Only the 8x8 digits, whose grey levels run from 0 to 16.
    tensor = torch.from_numpy(planes).float()[None] / 16
    resized = interpolate(tensor, facts.image_shape[1:], mode="bilinear")
    return to_uint8(resized)[0].numpy()
