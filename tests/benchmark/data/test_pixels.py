"""Between uint8 and floats: nothing darkens or wraps, and grey becomes three channels."""

import pytest
import torch
from reference.faulty_metrics import to_uint8_truncating

from benchmark.data.pixels import to_float, to_rgb, to_uint8


def rounds_to_nearest(to_uint8) -> bool:
    """All levels come back, and values closer to a level than 0.4 go to it."""
    levels = torch.arange(256)
    for offset in (-0.4, 0.0, 0.4):
        values = (levels + offset) / 255
        found = to_uint8(values.clamp(0, 1))
        if found.dtype != torch.uint8 or not torch.equal(found.long(), levels):
            return False
    return True


def test_to_uint8_rounds():
    assert rounds_to_nearest(to_uint8)
    assert not rounds_to_nearest(to_uint8_truncating)
    assert to_uint8(torch.tensor([-0.1, 1.1])).tolist() == [0, 255]


def test_to_float_is_undone_by_to_uint8():
    levels = torch.arange(256, dtype=torch.uint8)
    values = to_float(levels)
    assert values.dtype == torch.float32
    assert (values[0], values[255]) == (0.0, 1.0)
    assert torch.equal(to_uint8(values), levels)


@pytest.mark.parametrize("channels", [1, 3])
def test_to_rgb_repeats_grey_and_leaves_colours(seeded, channels):
    images = torch.randint(0, 256, (2, channels, 4, 5), generator=seeded(), dtype=torch.uint8)
    found = to_rgb(images)
    assert found.shape == (2, 3, 4, 5)
    for channel in range(3):
        assert torch.equal(found[:, channel], images[:, min(channel, channels - 1)])
