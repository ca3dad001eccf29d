"""The order in which a training sees its data."""

import torch
from torch import Tensor

from benchmark.base.errors import TrainingError
from benchmark.base.seeding import generator

NAMED_IMAGES = 5  # of a batch, in a message


class Batches:
    """An endless iterator over batches (images, labels, their rows in `images`).

    Each epoch is a new permutation, its remainder dropped. The order depends on the dataset's name
    and the seed alone, so that every model sees the same batches.

    Args:
        images: (n, C, H, W).
        labels: (n,), or None for batches without.

    Raises:
        TrainingError: fewer images than one batch takes.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        dataset: str,
        seed: int,
        labels: Tensor | None = None,
    ):
        if len(images) < batch_size:
            raise TrainingError(
                f"{dataset}: batch_size {batch_size} exceeds its {len(images)} training images"
            )
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.per_epoch = len(images) // batch_size
        self.count = 0  # of batches taken since the beginning
        self._order = generator("order", dataset, seed)
        self._shuffle()

    def _shuffle(self) -> None:
        self._before = self._order.get_state()
        self._permutation = torch.randperm(len(self.images), generator=self._order)

    def __iter__(self):
        return self

    def __next__(self) -> tuple[Tensor, Tensor | None, Tensor]:
        if self.count and self.count % self.per_epoch == 0:
            self._shuffle()
        self.count += 1
        rows = self._rows()
        return self.images[rows], None if self.labels is None else self.labels[rows], rows

    def _rows(self) -> Tensor:
        """Return the rows of the batch that was taken last."""
        place = (self.count - 1) % self.per_epoch
        return self._permutation.split(self.batch_size)[place]

    def __str__(self) -> str:
        """Name the batch that was taken last."""
        epoch, place = divmod(self.count - 1, self.per_epoch)
        rows = ", ".join(str(row) for row in self._rows()[:NAMED_IMAGES].tolist())
        more = ", ..." if self.batch_size > NAMED_IMAGES else ""
        return f"batch {place + 1} of epoch {epoch + 1}, training images {rows}{more}"

    def get_state(self) -> Tensor:
        """Return all that the coming batches depend on beside the data, as a uint8 tensor: the
        state of the generator before this epoch, and the number of batches taken."""
        return torch.cat([self._before, torch.tensor([self.count]).view(torch.uint8)])

    def set_state(self, state: Tensor) -> None:
        """Go on where `get_state` was called."""
        self.count = int(state[-8:].clone().view(torch.int64))
        self._order.set_state(state[:-8].clone())
        self._shuffle()
