"""The order in which a training sees its data."""

import itertools

import torch

from benchmark.training.batches import Batches


def test_each_epoch_is_a_new_permutation_without_its_remainder():
    images = torch.arange(10)
    stream = Batches(images, 3, "digits", 0, labels=images * 2)
    batches = list(itertools.islice(stream, 6))
    assert all(torch.equal(x, rows) and torch.equal(y, 2 * rows) for x, y, rows in batches)
    assert all(len(rows) == 3 for _, _, rows in batches)
    epochs = [torch.cat([rows for _, _, rows in part]) for part in (batches[:3], batches[3:])]
    assert all(len(epoch.unique()) == 9 for epoch in epochs)
    assert not torch.equal(*epochs)


def test_the_order_follows_dataset_and_seed():
    def first(dataset, seed):
        return next(Batches(torch.arange(50), 50, dataset, seed))[0].tolist()

    assert first("digits", 0) == first("digits", 0)
    orders = [first("digits", 0), first("digits", 1), first("mnist", 0)]
    assert len(set(map(tuple, orders))) == 3
    assert sorted(orders[0]) == list(range(50))


def test_without_labels_there_are_none():
    assert next(Batches(torch.arange(4), 4, "digits", 0))[1] is None


def test_the_rows_are_those_of_the_images():
    images = torch.rand(10, 1, 2, 2)
    for x, _, rows in itertools.islice(Batches(images, 3, "digits", 0), 6):
        assert torch.equal(x, images[rows])


def test_a_state_brings_back_what_follows():
    images = torch.arange(10)
    for taken in (0, 1, 3, 4, 8):  # three batches an epoch: at its beginning, inside, at its end
        batches = Batches(images, 3, "digits", 0)
        for _ in range(taken):
            next(batches)
        state = batches.get_state()
        expected = [next(batches)[2].tolist() for _ in range(5)]
        again = Batches(images, 3, "digits", 0)
        again.set_state(state)
        assert [next(again)[2].tolist() for _ in range(5)] == expected


def test_a_message_can_name_the_batch():
    batches = Batches(torch.arange(20), 8, "digits", 0)
    rows = [next(batches)[2].tolist() for _ in range(3)][-1]
    first = ", ".join(map(str, rows[:5]))
    assert str(batches) == f"batch 1 of epoch 2, training images {first}, ..."
    few = Batches(torch.arange(3), 3, "digits", 0)
    rows = next(few)[2].tolist()
    assert str(few) == f"batch 1 of epoch 1, training images {', '.join(map(str, rows))}"
