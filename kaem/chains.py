"""Markov chains that follow the posterior of every training datum from update to update."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kaem.langevin import Langevin, StepInfo, mean_info, near_walls, run_chains, stiffness
from kaem.posterior import Posterior
from kaem.tempering import Ladder
from kaem.thermodynamic import SweepInfo, Thermodynamic, sweep

STIFFNESS_EVERY = 50  # updates between two measurements: less than 1% of their time

Index = Tensor | Sequence[int]
"""Places of the data of a batch in the training set, (b,)."""


class ChainStore(nn.Module):
    """A table with a row per datum, filled on first use and grown when larger indices come.

    Its content belongs to a training run, not to the model: it is not in the state_dict.
    """

    table: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.table = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ChainStore":
        """Move or convert the table with the module: as a buffer it would be averaged, too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.table = None if self.table is None else fn(self.table)
        return self

    def read(self, index: Tensor, start: Callable[[int], Tensor]) -> Tensor:
        """Return the rows of some data.

        Args:
            index: (b,), the data's places in the training set.
            start: n -> n rows for data that are new.

        Raises:
            ValueError: an index is negative.
        """
        if index.min() < 0:
            raise ValueError(f"the index of a datum cannot be negative, got {int(index.min())}")
        table = self.table
        new = int(index.max()) + 1 - (0 if table is None else len(table))
        if new > 0:
            rows = start(new)
            self.table = table = rows if table is None else torch.cat([table, rows])
        assert table is not None
        return table[index.to(table.device)]

    def write(self, index: Tensor, rows: Tensor) -> None:
        """Store the rows (b, ...) of some data that were read before."""
        assert self.table is not None
        self.table[index.to(self.table.device)] = rows


def checked_index(index: Index | None, n: int) -> Tensor:
    """Return the places of n data as a tensor (n,), int64; ValueError where they are none."""
    if index is None:
        raise ValueError(
            "persistent chains belong to data: call loss(x, generator, index) with the place "
            "of each datum in the training set, or set persistent=False"
        )
    index = torch.as_tensor(index)
    if index.shape != (n,) or index.dtype == torch.bool or index.is_floating_point():
        given = f"{tuple(index.shape)} of {index.dtype}"
        raise ValueError(f"the index of a batch of {n} is ({n},) of integers, got {given}")
    return index.long()


class LangevinChains(nn.Module):
    """One chain per datum, at t = 1.

    Args:
        options: hyperparameters.
    """

    chains_per_datum = 1
    options: Langevin | Thermodynamic

    def __init__(self, options: Langevin | Thermodynamic):
        super().__init__()
        self.options = options
        self.store = ChainStore()
        self.stiffness: float | None = None  # as measured last

    @torch.no_grad()
    def draw(
        self,
        posterior: Posterior,
        update: int,
        generator: torch.Generator | None = None,
        index: Index | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Draw once per datum from its posterior, with a population at lower temperatures too.

        Args:
            update: number of the update that this is for.
            index: (b,) integers, places of the data in the training set; for persistent chains. A
                place that is there twice keeps one of the two ends.

        Returns:
            z (chains_per_datum, b, *event_shape), the last at t = 1, and {"outside", "walls"} of
            those with MALA's {"acceptance"} or ULA's {"stiffness"}: see `StepInfo`, `near_walls`
            and `stiffness` in `kaem.langevin`; the population adds {"swap_1", ...}.

        Raises:
            NonFiniteError, ChainLeftDomainError; ValueError: persistent without an index, or with
                one that is none.
        """
        rows = checked_index(index, len(posterior.x)) if self.options.persistent else None
        z = self._start(posterior, generator, rows).transpose(0, 1)
        posterior.check(z.flatten(0, 1))
        z, info = self._run(posterior, z, update, generator)
        posterior.check(z.flatten(0, 1))
        info["walls"] = near_walls(z[-1], posterior.domain)
        if self.options.kernel == "ula":
            if self.stiffness is None or update % STIFFNESS_EVERY == 0:
                self.stiffness = stiffness(posterior, z[-1], self.options.step_size)
            info["stiffness"] = self.stiffness
        if rows is not None:
            self.store.write(rows, z.transpose(0, 1))
        return z, info

    def _start(
        self, posterior: Posterior, generator: torch.Generator | None, rows: Tensor | None
    ) -> Tensor:
        """Return where the chains of each datum begin: (b, chains_per_datum, *event_shape)."""
        count = self.chains_per_datum

        def fresh(n: int) -> Tensor:
            return torch.unflatten(posterior.prior_draws(n * count, generator), 0, (n, count))

        return fresh(len(posterior.x)) if rows is None else self.store.read(rows, fresh)

    def _run(
        self, posterior: Posterior, z: Tensor, _update: int, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, float]]:
        """Move z (chains_per_datum, b, *event_shape) by an update's steps; return it and info."""
        moved, info = run_chains(
            posterior,
            z.flatten(0, 1),
            steps=self.options.steps,
            step_size=self.options.step_size,
            kernel=self.options.kernel,
            generator=generator,
        )
        return moved.unflatten(0, z.shape[:2]), self._describe(info)

    def _describe(self, info: StepInfo | SweepInfo) -> dict[str, float]:
        rates = {"outside": info.outside.item()}
        if self.options.kernel == "mala":
            rates["acceptance"] = info.acceptance.mean().item()
        return rates

    def after_update(self, update: int, updates: int) -> None:
        """Change nothing: only a population has what changes with time."""

    def training_state(self) -> dict[str, Tensor]:
        """Return what belongs to a training and is not in the state_dict.

        {"chains": (data, chains_per_datum, *event_shape), "stiffness": scalar}, each absent before
        it is known.
        """
        state = {} if self.store.table is None else {"chains": self.store.table}
        if self.stiffness is not None:
            state["stiffness"] = torch.tensor(self.stiffness, dtype=torch.float64)
        return state

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Go on where `training_state` was called; the tensors become the chains' own."""
        self.store.table = state.get("chains")
        self.stiffness = state["stiffness"].item() if "stiffness" in state else None


class Population(Ladder, LangevinChains):
    """Chains at the temperatures t_1..t_N of every datum, the last at t = 1."""

    options: Thermodynamic

    def __init__(self, options: Thermodynamic):
        LangevinChains.__init__(self, options)
        self.chains_per_datum = options.temperatures
        self.set_up(options)

    def _run(
        self, posterior: Posterior, z: Tensor, update: int, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, float]]:
        options, infos = self.options, []
        for number in range(options.sweeps):
            z, info = sweep(
                posterior,
                z,
                self.temperatures,
                steps=options.steps,
                step_size=self.step_sizes(),
                kernel=options.kernel,
                parities=self.parities(update, number),
                generator=generator,
            )
            infos.append(info)
        mean = mean_info(infos)
        self.level_sum += mean.log_likelihood.mean(dim=1)
        rates = {f"swap_{k}": rate for k, rate in enumerate(mean.swap_acceptance.tolist(), 1)}
        return z, self._describe(mean) | rates

    def training_state(self) -> dict[str, Tensor]:
        """Return also {"level_sum": (N + 1,)}."""
        return super().training_state() | {"level_sum": self.level_sum}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        super().load_training_state(state)
        self.level_sum.copy_(state["level_sum"])


def make_chains(sampler: object) -> LangevinChains | None:
    """Return the chains of a posterior sampler; None where it has none."""
    if isinstance(sampler, Thermodynamic):
        return Population(sampler)
    return LangevinChains(sampler) if isinstance(sampler, Langevin) else None
