"""Image files: what is cut out, how it is resized, what is refused, and which part is whose."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.datasets import (
    encoded,
    facts_of,
    generated,
    write_files,
)

from benchmark.base.errors import DataError
from benchmark.data.image_files import (
    LARGEST_FILE,
    BrokenImageError,
    ImageFiles,
    folder_labels,
    list_images,
    read_file,
    zip_reader,
)

CELEBA = {"size": (64, 64), "mode": "RGB", "crop": 140}


def prepare(content: bytes, size=(16, 16), mode="RGB", crop=None) -> np.ndarray:
    return ImageFiles(["a file"], lambda _: content, size, mode, crop)[0]


# Cut and size ------------------------------------------------------------------------------------


def triangle_weights(source: int, target: int) -> np.ndarray:
    """Rows of weights of a triangle as wide as two target pixels: bilinear with antialiasing."""
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale
    reach = np.abs(np.arange(source) + 0.5 - centres) / max(scale, 1)
    weights = np.clip(1 - reach, 0, None)
    return weights / weights.sum(1, keepdims=True)


def cut_and_resized(image: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """In floats, by the definition."""
    height, width = image.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side].astype(float)
    down, across = (triangle_weights(side, each) for each in size)
    return np.einsum("ia,jb,ab...->ij...", down, across, square, optimize=True)


def is_the_convention(found: np.ndarray, image: np.ndarray, side: int) -> bool:
    # Pillow rounds after each of the two directions: half a level each, and its integer weights.
    return np.abs(found - cut_and_resized(image, side, found.shape[:2])).max() < 1.05


@pytest.mark.parametrize("shape", [(218, 178), (140, 140), (141, 143), (178, 218), (300, 140)])
def test_the_central_140_becomes_64(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = prepare(encoded(image, "PNG"), **CELEBA)
    assert found.dtype == np.uint8
    assert found.shape == (64, 64, 3)
    assert is_the_convention(found, image, 140)


@pytest.mark.parametrize("shape", [(40, 40), (23, 57), (57, 24)])
@pytest.mark.parametrize("size", [(16, 16), (48, 48), (12, 20)])
def test_without_a_cut_it_is_the_largest_square(shape, size):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert is_the_convention(prepare(encoded(image, "PNG"), size), image, min(shape))


@pytest.mark.parametrize("crop", [None, 138, 148])
def test_another_cut_or_filter_is_told_apart(crop):
    image = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    assert not is_the_convention(prepare(encoded(image, "PNG"), (64, 64), crop=crop), image, 140)
    square = Image.fromarray(image[:140, :140])
    for other in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC, Image.Resampling.BOX):
        resized = np.asarray(square.resize((64, 64), other))
        assert not is_the_convention(resized, image[:140, :140], 140)


def test_an_image_of_the_right_size_is_taken_as_it_is():
    image = np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(prepare(encoded(image, "PNG")), image)


def test_colours_become_grey_by_luma_and_grey_becomes_three_channels():
    colour = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    grey = prepare(encoded(colour, "PNG"), mode="L")
    assert grey.shape == (16, 16)
    # ITU-R 601-2, rounded.
    assert np.abs(grey - colour @ [0.299, 0.587, 0.114]).max() < 0.51
    back = prepare(encoded(grey, "PNG"), mode="RGB")
    assert np.array_equal(back, np.repeat(grey[..., None], 3, 2))


# As it is seen -----------------------------------------------------------------------------------

FLIPS = Image.Transpose
# EXIF's orientation -> what was done to the image that is seen.
STORED = {
    1: (),
    2: (FLIPS.FLIP_LEFT_RIGHT,),
    3: (FLIPS.ROTATE_180,),
    4: (FLIPS.FLIP_TOP_BOTTOM,),
    5: (FLIPS.TRANSPOSE,),
    6: (FLIPS.ROTATE_90,),
    7: (FLIPS.TRANSVERSE,),
    8: (FLIPS.ROTATE_270,),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "done"), STORED.items())
def test_a_photograph_is_turned_as_its_exif_says(orientation, done, kind):
    seen = Image.fromarray(np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    stored, exif = seen, Image.Exif()
    for flip in done:
        stored = stored.transpose(flip)
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"lossless": True} if kind == "WEBP" else {})
    found = prepare(encoded(np.asarray(stored), kind, **options))
    assert np.array_equal(found, prepare(encoded(np.asarray(seen), "PNG")))


def test_an_odd_value_of_the_exif_is_no_matter():
    # A width that is a text, which Pillow cannot write again.
    entries = b"\x01\0\0\2\0\0\0\2x\0\0\0" + b"\x01\x12\0\3\0\0\0\1\0\6\0\0"
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + entries + b"\0\0\0\0"
    image = np.random.default_rng(5).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    found = prepare(encoded(image, "PNG", exif=exif))
    assert np.array_equal(found, np.rot90(image, -1))


def cut_out(hidden: int) -> dict[str, bytes]:
    """A grey square on what is transparent, of some level that nobody sees, in every form."""
    square = np.full((16, 16), hidden, np.uint8)
    square[4:12, 4:12] = 200
    alpha = np.where(square == 200, 255, 0).astype(np.uint8)
    inside = Image.fromarray((square == 200).astype(np.uint8), "P")
    inside.putpalette([hidden] * 3 + [200] * 3)
    rgba = np.dstack([square, square, square, alpha])
    images = {
        "RGBA": (Image.fromarray(rgba), {}),
        "LA": (Image.fromarray(np.dstack([square, alpha])), {}),
        "palette": (inside, {"transparency": 0}),
        "palette of RGBA": (Image.fromarray(rgba).quantize(2), {}),
        "grey tRNS": (Image.fromarray(square), {"transparency": hidden}),
        "RGB tRNS": (Image.fromarray(rgba[..., :3]), {"transparency": (hidden,) * 3}),
    }
    return {form: png(image, **options) for form, (image, options) in images.items()}


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("form", cut_out(0))
def test_what_is_transparent_is_white(form, mode):
    white = np.full((16, 16), 255)
    white[4:12, 4:12] = 200
    for hidden in (0, 60, 120, 180):
        found = prepare(cut_out(hidden)[form], mode=mode)
        assert np.array_equal(found, white if mode == "L" else np.dstack([white] * 3))


def test_half_transparent_is_half_white_and_opaque_is_what_it_was():
    levels = np.random.default_rng(6).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    alpha = levels[..., 3:] / 255
    blended = levels[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(prepare(encoded(levels, "PNG")) - blended).max() < 1.01
    levels[..., 3] = 255
    assert np.array_equal(prepare(encoded(levels, "PNG")), levels[..., :3])


# Broken files ------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises an image of this size, and holds none of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size)
    return start + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(4).integers(0, 256, (40, 40, 3), dtype=np.uint8)
BROKEN = {
    "text": (b"<html>quota exceeded</html>", "no image of the kinds JPEG, PNG"),
    "nothing": (b"", "no image of the kinds"),
    "half a jpg": (encoded(NOISE, "JPEG")[:700], "truncated"),
    "half a png": (encoded(NOISE, "PNG")[:700], "truncated|broken"),
    "no pixels": (png_header(16, 16), ""),
    "too many pixels": (png_header(8001, 8000), "8001x8000 pixels"),
    "far too many pixels": (png_header(30000, 30000), "900000000 pixels"),
    # Pillow would have Ghostscript run it.
    "a program": (encoded(NOISE, "EPS"), "no image of the kinds"),
    "16 bits": (encoded(NOISE[..., 0].astype(np.uint16) * 256, "PNG"), "more than 8 bits"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_the_reason(content, reason):
    with pytest.raises(BrokenImageError, match=f"^a file: .*({reason})"):
        prepare(content)


@pytest.mark.parametrize("shape", [(139, 178), (218, 139)])
def test_an_image_smaller_than_its_cut(shape):
    image = encoded(np.zeros((*shape, 3), np.uint8), "PNG")
    with pytest.raises(BrokenImageError, match=r"a file: .* pixels, 140x140 are cut out"):
        prepare(image, **CELEBA)


def test_a_file_that_is_too_large_is_neither_read_nor_unpacked(tmp_path):
    with (tmp_path / "a.png").open("wb") as handle:
        handle.truncate(LARGEST_FILE + 1)
    with pytest.raises(ValueError, match=f"{LARGEST_FILE + 1} bytes"):
        read_file(str(tmp_path / "a.png"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(tmp_path / "a.png", "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        with pytest.raises(ValueError, match=f"{LARGEST_FILE + 1} bytes unpacked"):
            zip_reader(archive)("a.png")
        assert (tmp_path / "a.zip").stat().st_size < LARGEST_FILE / 50


# Which files, and whose --------------------------------------------------------------------------


def test_images_are_found_in_and_below_a_folder_and_nothing_else(tmp_path):
    images = ["1.jpg", "b/2.PNG", "b/c/3.jpeg", "4.webp", "b/5.bmp", "6.pgm", "7.ppm", "8.jfif"]
    hidden = [".hidden.jpg", "b/._2.png", ".thumbnails/1.jpg", ".DS_Store"]
    others = ["b/1.tif", "2.TIF", "jpg", "folder.jpg/x", "Thumbs.db"]
    folder = tmp_path / ".cache" / "images"  # what lies below a hidden folder is not hidden
    write_files(folder, dict.fromkeys(images + hidden + others, b""))
    names, left_out = list_images(folder)
    assert names == sorted(str(folder / name) for name in images)
    assert left_out == {".tif": 2, "without a suffix": 2, ".db": 1}


def test_links_are_followed_and_none_goes_round_for_ever(tmp_path):
    folder = tmp_path / "images"
    write_files(folder, {"a/1.png": b"", "b/2.png": b""})
    write_files(tmp_path / "elsewhere", {"3.png": b"", ".4.png": b"", ".hidden/5.png": b""})
    write_files(tmp_path, {"6.png": b""})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "7.png").symlink_to(tmp_path / "6.png")
    for link, above in (("up", tmp_path), ("a/up", folder), ("b/self", folder / "b")):
        (folder / link).symlink_to(above)
    names = [str(Path(name).relative_to(folder)) for name in list_images(folder)[0]]
    assert names == ["7.png", "a/1.png", "b/2.png", "linked/3.png"]
    (folder / "a/across").symlink_to(folder / "b")
    (folder / "b/across").symlink_to(folder / "a")
    assert len(list_images(folder)[0]) == 6  # each across once


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    # A missing one refuses root too, which permissions do not.
    with pytest.raises(DataError, match=r"missing cannot be read: No such file"):
        list_images(tmp_path / "missing")


def test_a_link_above_a_relative_folder_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(Path("images"), {"1.png": b""})
    Path("images/up").symlink_to(tmp_path)
    assert list_images(Path("images"))[0] == ["images/1.png"]


FACTS = facts_of(generated((8, 8)), classes=3)
TRAIN, TEST = Path("made/train"), Path("made/test")
ANIMALS = ["cat/1.png", "cat/x/2.png", "ant/1.png", "dog/3.png"]


def labels_of(train: list[str], test: list[str]) -> list[list[int]]:
    names = {TRAIN: train, TEST: test}
    parts = {part: [str(part / name) for name in files] for part, files in names.items()}
    return [labels.tolist() for labels in folder_labels(FACTS, parts).values()]


def test_labels_are_the_names_of_the_folders_in_order():
    found = labels_of(ANIMALS, ["dog/1.png", "ant/2.png", "cat/3.png"])
    assert found == [[1, 1, 0, 2], [2, 0, 1]]


def test_an_accent_is_a_letter_of_its_own_on_macos():
    names = [f"{name}/1.png" for name in ("zoo", "caf\u00e9", "dog")]
    assert labels_of(names, names) == [[2, 0, 1]] * 2
    assert (
        labels_of(names, [name.replace("\u00e9", "e\u0301") for name in names]) == [[2, 0, 1]] * 2
    )


def test_without_classes_there_are_no_labels():
    parts = {TRAIN: ANIMALS, TEST: ["1.png"]}
    assert folder_labels(facts_of(generated((8, 8)), classes=None), parts) == dict.fromkeys(parts)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (ANIMALS[:3], "train has 3: ant, cat, dog; not every part has dog\n  made/test has 2: "),
        ([*ANIMALS, "elk/1.png"], "test has 4: ant, cat, dog, elk; not every part has elk\n"),
        ([*ANIMALS, "1.png"], "test has 4: .*; not every part has images in no folder\n"),
        ([*ANIMALS[:3], "1.png"], "test has 3: ant, cat, images in no folder; "),
        # It would give the images of elks the number of the dogs.
        ([*ANIMALS[:3], "elk/1.png"], "train has 3: .* has dog\n  made/test has 3: .* has elk\n"),
        ([], "test has 0: \n"),
    ],
    ids=["one less", "one more", "one beside", "one in none", "another one", "no images"],
)
def test_folders_that_are_not_the_classes(names, found):
    message = "made: each part needs a folder of images for each of the same 3 classes\n(.*\n)*.*"
    with pytest.raises(DataError, match=f"{message}made/{found}"):
        labels_of(ANIMALS, names)


@pytest.mark.parametrize("names", [ANIMALS[:3], [*ANIMALS, "elk/1.png"], [*ANIMALS, "1.png"]])
def test_as_many_folders_as_classes_in_all_parts(names):
    with pytest.raises(DataError, match="each part needs a folder"):
        labels_of(names, names)
