"""The Kolmogorov-Arnold Energy Model: priors of one-dimensional energy densities, exactly
sampled, with a neural or KAN generator (P. Raj, arXiv 2506.14167)."""

from kaem.importance import ImportanceSampling
from kaem.model import KAEM
from kaem.priors import MixturePrior, UnivariatePrior

__all__ = ["KAEM", "ImportanceSampling", "MixturePrior", "UnivariatePrior"]
