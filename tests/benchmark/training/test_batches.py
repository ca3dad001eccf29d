"""The order in which a training sees its data."""

import itertools

import pytest
import torch

from benchmark.training.batches import Batches


def test_each_epoch_is_a_new_permutation_without_its_remainder():
    images = torch.rand(10, 1, 2, 2)
    stream = Batches(images, 3, "digits", 0, labels=torch.arange(10))
    batches = list(itertools.islice(stream, 6))
    for x, labels, rows in batches:
        assert torch.equal(x, images[rows])
        assert torch.equal(labels, rows)
    first, second = torch.cat([rows for _, _, rows in batches]).view(2, 9)
    assert len(first.unique()) == len(second.unique()) == 9
    assert not torch.equal(first, second)


def test_the_order_follows_dataset_and_seed():
    def order(dataset, seed):
        x, labels, _ = next(Batches(torch.arange(50), 50, dataset, seed))
        assert labels is None
        return tuple(x.tolist())

    assert order("digits", 0) == order("digits", 0)
    orders = {order("digits", 0), order("digits", 1), order("mnist", 0)}
    assert len(orders) == 3
    assert all(sorted(rows) == list(range(50)) for rows in orders)


# Three batches an epoch: at its beginning, inside, at its end.
@pytest.mark.parametrize("count", [0, 1, 3, 4, 8])
def test_a_state_brings_back_what_follows(count):
    batches, other = (Batches(torch.arange(10), 3, "digits", 0) for _ in range(2))
    for _ in range(count):
        next(batches)
    other.set_state(batches.get_state())
    for _ in range(5):
        assert torch.equal(next(batches)[2], next(other)[2])


@pytest.mark.parametrize(
    ("n", "size", "count", "place", "more"),
    [(20, 8, 3, "batch 1 of epoch 2", ", ..."), (3, 3, 1, "batch 1 of epoch 1", "")],
)
def test_a_message_can_name_the_batch(n, size, count, place, more):
    batches = Batches(torch.arange(n), size, "digits", 0)
    *_, (_, _, rows) = itertools.islice(batches, count)
    names = ", ".join(map(str, rows[:5].tolist()))
    assert str(batches) == f"{place}, training images {names}{more}"
