"""Facts about datasets: what an entry says, what follows from it, and the committed ones."""

from typing import get_args

import pytest
from support.configs import FACES, loaded_by

from benchmark.config.facts import Facts, Layout, known_datasets
from benchmark.data.distributions import READERS
from benchmark.data.downloads import DOWNLOADS

SPLIT_IN_TWO = {
    "image_shape": [1, 4, 6],
    "splits": {
        "train": {"part": "all", "count": 7},
        "validation": {"part": "all", "count": 2},
        "test": {"part": "held", "count": 3},
    },
}


def test_what_an_entry_leaves_out_has_defaults():
    facts = Facts.parse("mine", SPLIT_IN_TWO)
    assert (facts.name, facts.title, facts.image_shape) == ("mine", "mine", (1, 4, 6))
    assert facts.digests == {}
    assert {name: cut.plain() for name, cut in facts.splits.items()} == SPLIT_IN_TWO["splits"]
    left_out = (facts.classes, facts.layout, facts.crop, facts.archive_md5)
    assert left_out == (None, None, None, None)


def test_a_part_needs_as_many_images_as_its_splits_take():
    assert Facts.parse("mine", SPLIT_IN_TWO).needed == {"all": 9, "held": 3}


def test_prepared_images_take_a_byte_for_each_value():
    assert Facts.parse("mine", SPLIT_IN_TWO).cache_bytes == 12 * 1 * 4 * 6
    assert Facts.parse("faces", FACES).cache_bytes == 60 * 3 * 64 * 64


def test_a_result_depends_on_which_images_there_are_and_on_no_word():
    facts = Facts.parse("faces", FACES)
    assert facts.images.plain() == {
        "image_shape": (3, 64, 64),
        "digests": {},
        "splits": FACES["splits"],
        "crop": 140,
    }
    words = {"title": "Other", "layout": "celeba", "archive_md5": "0" * 32, "classes": 3}
    assert Facts.parse("faces", FACES | words).images == facts.images
    # Without a crop there is no such key: what was trained before keeps its hash.
    assert "crop" not in Facts.parse("mine", SPLIT_IN_TWO).images.plain()


# The committed entries --------------------------------------------------------------------------


@pytest.mark.parametrize("name", known_datasets())
def test_a_committed_entry_can_be_read(name):
    entry = known_datasets()[name]
    facts = Facts.parse(name, entry)
    assert facts.layout in READERS
    assert facts.layout in DOWNLOADS or facts.layout in ("scikit-learn", "computed.darcy_flow")
    assert set(facts.digests) <= set(facts.needed)
    assert list(facts.splits) == ["train", "validation", "test"]


def test_every_layout_has_a_reader():
    assert set(get_args(Layout)) == set(READERS)


def test_whole_parts_are_used():
    # The counts of the publications: all images of each part, and for CelebA 202,599 in all.
    parts = {name: Facts.parse(name, each).needed for name, each in known_datasets().items()}
    assert parts["mnist"] == parts["fashion_mnist"] == {"train": 60_000, "test": 10_000}
    assert parts["cifar10"] == {"train": 50_000, "test": 10_000}
    assert parts["svhn"] == {"train": 73_257, "test": 26_032}
    assert parts["digits"] == {"all": 1_797}
    assert parts["darcy_flow"] == {"train": 8_000, "test": 2_000}
    assert sum(parts["celeba64"].values()) == 202_599


def test_reading_facts_imports_neither_torch_nor_numpy():
    script = "import benchmark.config.facts as d; d.known_datasets();"
    assert loaded_by(script + "print({'torch', 'numpy'} & set(sys.modules))") == "set()"
