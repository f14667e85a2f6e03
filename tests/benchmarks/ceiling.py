"""How well can negative-binomial counts be told from Poisson counts in a Ricker series? The power of the best
possible test.

    python -m tests.benchmarks.ceiling POSTERIOR [-m 100]

The test of level 1% with the most power on average over the prior is the marginal likelihood ratio (Neyman &
Pearson)

    log p(y | negative binomial, dispersion 2) - log p(y | Poisson)
    p(y | model) = integral p(y | theta, model) p(theta) dtheta

It knows both models and not theta. A verdict that knows one model only, and looks for other faults too, must
have less power. The integrals are by importance sampling with particle filters, in two rounds, the first from
a widened posterior (a fit of ricker) and the prior.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln
from scipy.stats import multivariate_t

import sbi_flows as sf
from simulators.ricker import CLASSIC_THETA
from tests.benchmarks.observations import negative_binomial
from tests.benchmarks.sections import parser_of

F = np.ndarray
DRAWS, PARTICLES, DEGREES = 150, 150, 5


def log_likelihood(theta: F, y: F, rng: np.random.Generator, overdispersed: bool) -> F:
    """log p(y | theta) for each theta, by a particle filter."""
    n = len(theta)
    log_r, sigma, rho = (column[:, None] for column in theta.T)
    x, total = np.zeros((n, PARTICLES)), np.zeros(n)
    for count in y:
        x = x + log_r - np.exp(x) + sigma * rng.standard_normal(x.shape)
        mean = np.maximum(rho * np.exp(x), 1e-12)
        if overdispersed:
            log_weight = (
                gammaln(count + mean) - gammaln(mean) - gammaln(count + 1) - (mean + count) * np.log(2)
            )
        else:
            log_weight = count * np.log(mean) - mean - gammaln(count + 1)
        best = log_weight.max(axis=1, keepdims=True)
        cumulative = np.cumsum(np.exp(log_weight - best), axis=1)
        total += best[:, 0] + np.log(cumulative[:, -1] / PARTICLES)
        cumulative *= PARTICLES / cumulative[:, -1:]
        edges = np.ceil(cumulative - rng.random((n, 1))).astype(np.int64)
        edges[:, -1] = PARTICLES
        x = np.repeat(x.ravel(), np.diff(edges, axis=1, prepend=0).ravel()).reshape(n, PARTICLES)
    return total


def log_evidence(posterior: sf.Posterior, y: F, rng: np.random.Generator, overdispersed: bool) -> float:
    """log p(y | model) by two rounds of importance sampling in unconstrained coordinates."""
    prior = posterior.prior
    z = prior.to_unconstrained(posterior.sample(y, DRAWS, seed=1).values)[0]
    wide = multivariate_t(z.mean(axis=0), 2.5 * np.cov(z.T) + 1e-6 * np.eye(3), df=DEGREES)
    some = int(0.7 * DRAWS)
    z = np.concatenate(
        [wide.rvs(some, random_state=rng), prior.to_unconstrained(prior.sample(DRAWS - some, rng))[0]]
    )
    theta, log_det = prior.from_unconstrained(z), prior.to_unconstrained(prior.from_unconstrained(z))[1]
    proposal = np.logaddexp(np.log(0.7) + wide.logpdf(z) + log_det, np.log(0.3) + prior.log_prob(theta))
    log_weights = log_likelihood(theta, y, rng, overdispersed) + prior.log_prob(theta) - proposal
    weights = np.exp(0.5 * (log_weights - log_weights.max()))
    weights /= weights.sum()
    mean = weights @ z
    spread = (weights[:, None] * (z - mean)).T @ (z - mean) + 1e-6 * np.eye(3)
    second = multivariate_t(mean, 1.5 * spread, df=DEGREES)
    z = np.clip(second.rvs(DRAWS, random_state=rng), -12, 12)
    theta = prior.from_unconstrained(z)
    proposal = second.logpdf(z) + prior.to_unconstrained(theta)[1]
    found = log_likelihood(theta, y, rng, overdispersed) + prior.log_prob(theta) - proposal
    return float(np.logaddexp.reduce(found) - np.log(DRAWS))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("posterior", help="a fit of ricker")
    parser.add_argument(
        "-m",
        type=int,
        default=100,
        help="series of each kind; twice as many Poisson ones of theta from the prior",
    )
    options = parser.parse_args()
    ricker, posterior, rng = sf.load_simulator("ricker"), sf.load(options.posterior), np.random.default_rng(3)
    m = options.m

    def ratios(series: F) -> F:
        return np.array(
            [log_evidence(posterior, y, rng, True) - log_evidence(posterior, y, rng, False) for y in series]
        )

    null = ratios(np.asarray(ricker.run(ricker.prior.sample(2 * m, rng), rng), dtype=float))
    limits = {level: float(np.quantile(null, 1 - level)) for level in (0.01, 0.05)}
    print(
        f"{2 * m} Poisson series, theta from the prior: 99% of the log ratios below {limits[0.01]:.2f}, 95% "
        f"below {limits[0.05]:.2f}",
        flush=True,
    )
    for where, theta in {
        "prior": ricker.prior.sample(m, rng),
        "classic": np.tile(list(CLASSIC_THETA.values()), (m, 1)),
    }.items():
        found = ratios(negative_binomial(theta, rng))
        power = ", ".join(f"{(found > limit).mean():.2f} at {level:.0%}" for level, limit in limits.items())
        print(f"negative binomial, dispersion 2, theta {where}: power {power}", flush=True)


if __name__ == "__main__":
    main()
