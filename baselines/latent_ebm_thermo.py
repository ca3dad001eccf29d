"""The latent EBM with a population of tempered posteriors in place of one chain.

`kaem.tempering` has the temperatures, the exchange and the two objectives of the decoder. What
KAEM draws exactly, the prior at t = 0, short runs draw here.
"""

from dataclasses import fields

import torch
from torch import Tensor, nn

from baselines.langevin import short_run
from baselines.latent_ebm import LatentEBM
from kaem.images import checked_images
from kaem.likelihood import log_likelihood
from kaem.random import Generators
from kaem.tempering import Ladder, Tempering, exchange_in_turn

# What `LatentEBM` does not say in its own terms.
POPULATION = {field.name for field in fields(Tempering)} - {"steps", "step_size", "prior_step_size"}


class ThermodynamicLatentEBM(Ladder, LatentEBM):
    """A latent EBM, trained by short runs of Langevin dynamics at several temperatures.

    All chains begin at N(0, I) in each update. The runs at t take steps between
    `prior_step_size` (t = 0) and `posterior_step_size` (t = 1), see `kaem.tempering.step_sizes`.

    Args:
        energy, decoder, options: those of `LatentEBM`, with `posterior_steps` of each sweep, and
            `temperatures`, `sweeps` and what follows them of `kaem.tempering.Tempering`.
    """

    def __init__(self, energy: nn.Module, decoder: nn.Module, **options):
        population = {name: options.pop(name) for name in POPULATION & options.keys()}
        LatentEBM.__init__(self, energy, decoder, **options)
        prior, posterior = self.prior_run, self.posterior_run
        population |= {"steps": posterior["steps"], "step_size": posterior["step_size"] ** 2 / 2}
        self.set_up(Tempering(prior_step_size=prior["step_size"] ** 2 / 2, **population))
        self.updates_done = 0

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict]:
        """Return a scalar with the gradient of `LatentEBM.loss` or, for the decoder, that of the
        integral objective.

        Args:
            x: (n, C, H, W), see `kaem.images.checked_images`.

        Returns:
            The value of `LatentEBM.loss` at t = 1, and what that has to log with the swaps of each
            gap, "swap_1", ....
        """
        x = checked_images(x, self.decoder)
        z, all_levels, swaps = self.population_draws(x, generator)
        if self.training and torch.is_grad_enabled():
            self.level_sum += all_levels
        integral = self.options.objective == "integral"
        levels = self._log_likelihood(x, z if integral else z[-1:]).mean(1)
        likelihood = levels[-1].detach()
        learnt = (self.weights() * levels).sum() if integral else levels[-1]
        gap = self.energy(z[-1]).mean() - self.energy(z[0]).mean()
        info = {"log_likelihood": likelihood.item(), "energy_gap": gap.item()}
        info |= {f"swap_{k}": rate for k, rate in enumerate(swaps.tolist(), 1)}
        return -(learnt + gap) + (learnt - likelihood).detach(), info

    @torch.no_grad()
    def population_draws(
        self, x: Tensor, generator: Generators = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return draws at t_0..t_N, (N + 1, n, latents), the mean of log p(x|z) at each, (N + 1,),
        and the swaps of each gap, (N,).

        Those at t = 0 are the ends of runs towards p(z) that the last sweep offered to the others.
        """
        t, b, seen = self.temperatures, len(x), []
        step_size = (2 * self.step_sizes()).sqrt().repeat_interleave(b).unsqueeze(1)

        def log_density(z: Tensor) -> Tensor:
            levels = self._log_likelihood(x, z.unflatten(0, (-1, b)))
            return (t[1:, None] * levels).flatten() + self.log_prior(z)

        z = self._start((len(t) - 1) * b, generator)
        for sweep in range(self.options.sweeps):
            steps = self.options.steps
            z = short_run(z, log_density, steps=steps, step_size=step_size, generator=generator)
            prior = self.prior_draws(b, generator)
            chains = torch.cat([prior, z]).unflatten(0, (-1, b))
            levels = self._log_likelihood(x, chains)
            parities = self.parities(self.updates_done + 1, sweep)
            chains, rates = exchange_in_turn(chains, levels, t, parities, generator)
            z = chains[1:].flatten(0, 1)
            seen.append((levels.mean(1), rates))
        levels, swaps = (torch.stack(values).mean(0) for values in zip(*seen, strict=True))
        return torch.cat([prior.unsqueeze(0), chains[1:]]), levels, swaps

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return l of z (k, n, latents) for each datum, (k, n)."""
        images = self.decoder(z.flatten(0, 1))
        repeated = x.repeat(len(z), 1, 1, 1)
        return log_likelihood(repeated, images, self.sigma).unflatten(0, z.shape[:2])

    def after_update(self, update: int, updates: int) -> None:
        super().after_update(update, updates)
        self.updates_done = update

    def training_state(self) -> dict[str, Tensor]:
        """Return what a training has beside the state_dict, for a checkpoint."""
        return {"level_sum": self.level_sum, "updates_done": torch.tensor(self.updates_done)}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Go on with the training of which `training_state` gave the state."""
        self.level_sum.copy_(state["level_sum"])
        self.updates_done = int(state["updates_done"])
