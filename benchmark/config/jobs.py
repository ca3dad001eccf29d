"""Jobs: the things that a run computes, each with the settings that its result depends on."""

from dataclasses import dataclass

from benchmark.base.files import settings_digest
from benchmark.config.validation import CLASSIFIER

# What looking into a trained KAEM takes (`benchmark.inspection.inspect`); the passes are the
# decoder's.
INSPECTION = {
    "images": 400,
    "chains": 2,  # of the posterior of each image, from independent prior draws
    "annealing": 300,  # passes from the prior to the posterior: to find the mode of each image
    "burn_in": 100,
    "kept": 400,
    "sobol_draws": 1000,
    "bases": 4,  # prior draws from which single latents depart
    "positions": 15,  # of a latent that is moved
    "moved": 8,  # latents at most: those that matter most
    "decoded": 2048,  # training images whose posterior draws are decoded and measured
}


# Comparing samplers on a posterior with two modes (`benchmark.inspection.two_modes`), the same in
# every run.
POWER_JOB = {
    "dataset": "two_modes",
    "model": "population",
    "settings": {
        "datum": 1.5,
        "sigma": 0.2,
        "chains": 500,
        "temperatures": 6,
        "power_start": 4.0,
        "power_end": 2.0,
        "steps": 5,
        "sweeps": 80,
        "step_size": 0.002,
        "prior_step_size": 0.1,
    },
}


@dataclass(frozen=True)
class Job:
    """One thing to compute and everything its result depends on.

    Attributes:
        run, dataset, model: names; `model` is the entry's name in the configuration.
        settings: plain values, resolved for this dataset and this entry.
    """

    run: str
    dataset: str
    model: str
    settings: dict

    @property
    def config_hash(self) -> str:
        """16 hex digits that change when any setting does."""
        identity = {"dataset": self.dataset, "entry": self.model, "settings": self.settings}
        return settings_digest(identity)

    def title(self, seed: int) -> str:
        """What progress and messages call it."""
        names = [self.dataset, self.model]
        return " · ".join(names if self.model == CLASSIFIER else [*names, f"seed {seed}"])
