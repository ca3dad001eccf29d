"""Warnings about a training that runs but does not learn what it should."""

import logging

PATIENCE = 100  # updates in a row
LOW_ESS = 1.1
LOW_ACCEPTANCE = 0.1
MANY_OUTSIDE = 0.05

logger = logging.getLogger("kaem")

# What each watched value of a loss's info may not do for `PATIENCE` updates in a row.
SYMPTOMS = {
    "ess": (
        lambda value: value <= LOW_ESS,
        f"the effective sample size was at most {LOW_ESS}: each datum's gradient stands on one "
        "proposal. Use more proposals, fewer latents, a larger sigma, or a Langevin sampler",
    ),
    "acceptance": (
        lambda value: value < LOW_ACCEPTANCE,
        f"fewer than {LOW_ACCEPTANCE:.0%} of the MALA proposals were accepted. Lower step_size",
    ),
    "outside": (
        lambda value: value > MANY_OUTSIDE,
        f"more than {MANY_OUTSIDE:.0%} of the Langevin proposals left the prior's domain and were "
        "sent back. Widen the domain, let domain_update move it, or lower step_size",
    ),
}


class HealthWatch:
    """Counts for how many updates in a row each symptom lasts, and logs it once per spell."""

    def __init__(self):
        self.spells = dict.fromkeys(SYMPTOMS, 0)

    def see(self, update: int, info: dict[str, float]) -> None:
        """Look at one update's info; log a warning when a symptom has lasted `PATIENCE` updates."""
        for name, (ill, advice) in SYMPTOMS.items():
            self.spells[name] = self.spells[name] + 1 if name in info and ill(info[name]) else 0
            if self.spells[name] == PATIENCE:
                first = update - PATIENCE + 1
                logger.warning("updates %d to %d: %s.", first, update, advice)
