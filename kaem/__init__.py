"""The Kolmogorov-Arnold Energy Model: priors of one-dimensional energy densities, exactly
sampled, with a neural or KAN decoder (P. Raj, arXiv 2506.14167)."""

from kaem.copula import CopulaFit, CopulaPrior
from kaem.importance import ImportanceSampling
from kaem.langevin import Langevin
from kaem.model import KAEM
from kaem.priors import MixturePrior, UnivariatePrior
from kaem.saving import load, save
from kaem.thermodynamic import Thermodynamic

__all__ = [
    "KAEM",
    "CopulaFit",
    "CopulaPrior",
    "ImportanceSampling",
    "Langevin",
    "MixturePrior",
    "Thermodynamic",
    "UnivariatePrior",
    "load",
    "save",
]
