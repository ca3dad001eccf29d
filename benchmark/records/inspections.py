"""What looking into models tells: classes for the "metrics" of those kinds of records."""

from benchmark.base.typed import Count, Natural, NotNegative, Number, Share, Strict
from benchmark.records.measurements import Sha256

Shares = list[Share]


class Formula(Strict):
    """A formula of one latent's log ratio of density and reference.

    Attributes:
        error: in nats.
    """

    latent: list[Natural]
    form: str
    formula: str
    error: NotNegative
    relative_error: NotNegative


class Independence(Strict):
    """Frechet distances in the classifier's features, see `benchmark.inspection.independence`."""

    fd_images: Number
    fd_posterior: Number
    fd_shuffled: Number
    fd_prior: Number


class Dependence(Strict):
    """How far the draws of a copula depend on one another as those of the posterior do.

    Attributes:
        rank_rms: root mean square of the rank correlations of all pairs of latents in draws from
            the posteriors of test images; a product of densities has none.
        rank_rms_difference, rank_largest_difference: the copula's less these.
        rank_error: standard error of one of independent latents, from as many images.
        log_copula_posterior: mean log density of the copula at the posterior draws, in nats.
        log_copula_prior: that at its own draws, which is their total correlation.
    """

    rank_rms: NotNegative
    rank_rms_difference: NotNegative
    rank_largest_difference: NotNegative
    rank_error: NotNegative
    log_copula_posterior: Number
    log_copula_prior: Number


class InspectionMetrics(Strict):
    """What looking into a trained KAEM told; a list has one value per latent.

    Attributes:
        r_hat_median: split R-hat of the posterior chains, over images and latents.
        r_hat_mixed_share: of images and latents, with R-hat below 1.1.
        ks_prior: Kolmogorov-Smirnov distance of aggregated posterior and prior.
        ks_chains: that of the aggregated posteriors of the first and the last chain.
        eta_squared: share of the posterior means' variance between classes.
    """

    arrays_sha256: Sha256
    r_hat_median: NotNegative
    r_hat_mixed_share: Share
    acceptance: Share
    ks_prior: Shares
    ks_chains: Shares
    sobol_total: list[NotNegative]
    sobol_error: list[NotNegative]
    formulas: list[Formula]
    eta_squared: Shares | None = None
    eta_squared_chance: Share | None = None
    independence: Independence | None = None
    dependence: Dependence | None = None


class PowerMetrics(Strict):
    """What two samplers made of two modes after equally many decoder passes.

    Attributes:
        mass_true: of the right mode; `mass_ula` and `mass_population` are what the samplers found.
        mass_prior_basin: of the prior beyond the barrier, where ULA's chains begin.
        autocorrelation_ula: over the last half of the passes, about the true mean.
        log_evidence: log p(x), in nats; the others are the population's estimates. None in older
            records.
    """

    arrays_sha256: Sha256
    passes: Count
    mass_true: Share
    mass_prior_basin: Share
    mass_ula: Share
    mass_ula_error: NotNegative
    mass_population: Share
    mass_population_error: NotNegative
    autocorrelation_ula: Number
    autocorrelation_population: Number
    swap_rates: Shares
    log_evidence: Number | None = None
    log_evidence_trapezoid: Number | None = None
    log_evidence_stones: Number | None = None
