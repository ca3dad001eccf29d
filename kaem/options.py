"""KAEM's training options as plain values, and the objects that they make."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kaem.copula import CopulaFit, CopulaPrior, Prior
from kaem.decoders import ImageShape, make_decoder
from kaem.domain import DomainUpdate, feature_domain
from kaem.importance import ImportanceSampling
from kaem.langevin import Langevin
from kaem.priors import make_prior
from kaem.thermodynamic import Thermodynamic
from kaem.univariate import UnivariateFunctions

Sampler = ImportanceSampling | Langevin | Thermodynamic

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "importance": ImportanceSampling,
    "langevin": Langevin,
    "thermodynamic": Thermodynamic,
}
LOG_NORMALIZERS = ("exact", "contrastive")
PENALTY_POINTS = 100  # on each layer's domain

Options = TypeVar("Options")


def plain(settings: Any) -> Any:
    """Copy settings as JSON holds them; numbers and arrays of numpy and torch become Python's.

    Raises:
        TypeError: JSON has no such value.
    """

    def converted(value: Any) -> Any:
        if not hasattr(value, "tolist"):
            raise TypeError(f"settings are numbers, words and lists of them, got {value!r}")
        return value.tolist()

    return json.loads(json.dumps(settings, default=converted))


def checked(build: Callable[..., Options], values: dict[str, Any]) -> Options:
    """Build a dataclass of options; TypeError for a value of another type than its default."""
    options = build(**values)
    for field in fields(options):  # type: ignore[arg-type]
        value, kind = getattr(options, field.name), type(field.default)
        allowed = (int, float) if kind is float else kind
        if kind in (bool, int, float, str) and not isinstance(value, allowed):
            raise TypeError(f"{field.name} is of type {kind.__name__}, got {value!r}")
    return options


def make_sampler(kind: str, **options: Any) -> Sampler:
    """Build the posterior sampler called `kind`; ValueError with the known names otherwise."""
    if kind not in SAMPLERS:
        raise ValueError(f"unknown sampler {kind!r}; known: {', '.join(SAMPLERS)}")
    return checked(SAMPLERS[kind], options)


def make_arguments(settings: dict[str, Any], image_shape: ImageShape) -> dict[str, Any]:
    """Build the arguments of `kaem.model.KAEM` from settings, see its `from_settings`."""
    missing = [name for name in ("prior", "decoder", "sigma", "sampler") if name not in settings]
    if missing:
        raise ValueError(f"KAEM's settings lack {', '.join(missing)}")
    arguments = dict(settings)
    densities = make_prior(**settings["prior"])
    prior: Prior = densities
    if "copula" in settings:
        fit = dict(arguments.pop("copula"))
        own = {"components": fit.pop("components")} if "components" in fit else {}
        prior = CopulaPrior(densities, **own)
        options = arguments["copula_fit"] = checked(CopulaFit, fit)
        if options.draws < prior.mixture.components:
            raise ValueError(f"a copula needs as many draws as components, got {options}")
    arguments["prior"] = prior
    described = settings["decoder"]
    if described.get("kind") == "kan":
        described = {"domain": feature_domain(prior)} | described
    arguments["decoder"] = make_decoder(q=prior.q, image_shape=image_shape, **described)
    arguments["sampler"] = make_sampler(**settings["sampler"])
    for name, build in (("domain_update", DomainUpdate), ("regulariser", Regulariser)):
        if name in settings:
            arguments[name] = checked(build, settings[name])
    return arguments


@dataclass(frozen=True)
class Regulariser:
    """Weights of the KAN regulariser (arXiv 2404.19756, equation 2.20), summed over all layers.

    Args:
        l1: of the summed mean magnitude of the edge functions on their domain.
        entropy: of the entropy of their shares in it.

    >>> from kaem import MixturePrior
    >>> from kaem.options import Regulariser
    >>> Regulariser(l1=0.1, entropy=0.1).penalty(MixturePrior(q=3, p=2)).shape  # a scalar
    torch.Size([])
    """

    l1: float = 0.0
    entropy: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.l1 < math.inf and 0 <= self.entropy < math.inf):
            raise ValueError(
                f"a regulariser's weights are at least 0, got {self.l1}, {self.entropy}"
            )

    def penalty(self, model: nn.Module) -> Tensor | float:
        """Return the penalty on all edge functions of a model, a scalar."""
        if self.l1 == 0 and self.entropy == 0:
            return 0.0
        total: Tensor | float = 0.0
        for layer in model.modules():
            if isinstance(layer, UnivariateFunctions):
                points = torch.linspace(*layer.domain, PENALTY_POINTS)
                points = points.to(next(layer.parameters()))
                l1, entropy = layer.sparsity(points)
                total = total + self.l1 * l1 + self.entropy * entropy
        return total
