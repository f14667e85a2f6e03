"""Exact posterior draws, where the simulator knows its posterior or can estimate its likelihood without bias.

With an unbiased estimate p^(y | theta), importance sampling over theta and the estimator's own randomness is
exact (Andrieu & Roberts 2009; Tran et al. 2013, IS^2, 1309.3339):

    w_i = p^(y | theta_i) p(theta_i) / g(theta_i),   theta_i ~ g

A pilot round takes four of five proposals from the neural posterior q and one from the prior, so that a wrong
q cannot hide mass. The second round proposes from a Student t fitted to the pilot in unconstrained
coordinates, from q and from the prior. It alone gives the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import multivariate_t

from sbi_flows.arrays import F
from sbi_flows.diagnostics.importance import efficiency, pareto_k
from sbi_flows.draws import Draws, groups_of
from sbi_flows.errors import SimulatorContractError
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.verdict import Verdict

_PILOT, _PILOT_OF_Q = 800, 0.8
_SECOND_OF_Q, _SECOND_OF_PRIOR = 0.25, 0.05
_DEGREES, _INFLATION = 5.0, 1.3
_GOOD_ESS, _POOR_ESS = 200, 50


def exact_draws(simulator: Simulator, posterior: Posterior, y: F, n: int, *, seed: int) -> Draws | None:
    """Draws from the exact posterior at y, or None where the simulator offers neither way.

    After importance sampling, `facts["log_evidence"]` is log p(y) in nats, and `facts["efficiency"]` and
    `facts["pareto_k"]` say how good a proposal q alone is (`diagnostics/importance.py`).
    """
    rng = stream(seed, "exact")
    if simulator.exact_posterior is not None:
        values = np.asarray(simulator.exact_posterior(y, n, rng), dtype=np.float64)
        if values.shape != (n, simulator.prior.d):
            wanted = f"wanted ({n}, {simulator.prior.d})"
            raise SimulatorContractError(
                f"{simulator.name}.exact_posterior: returned shape {values.shape}; {wanted}."
            )
        verdict = Verdict("trust", "draws from the posterior in closed form.")
        return _draws(simulator.prior, values, None, "exact, closed form", verdict, {})
    if simulator.log_likelihood is None:
        return None
    given = simulator.events.unpack(y)
    pilot = _proposal(simulator.prior, posterior, given, _PILOT_OF_Q, None)
    first = _weighted(simulator, pilot, y, min(_PILOT, n), rng)
    of_q = _rating_of_q(posterior, pilot, given, first)
    second = _proposal(simulator.prior, posterior, given, _SECOND_OF_Q, _student(first))
    _, log_weights, theta = _weighted(simulator, second, y, n, rng)
    largest = log_weights.max()
    weights = np.exp(log_weights - largest)
    evidence = float(largest + np.log(weights.mean()))
    weights /= weights.sum()
    verdict = _verdict(float(1 / np.square(weights).sum()), n)
    facts = {"log_evidence": evidence, **of_q}
    return _draws(simulator.prior, theta, weights, "exact, importance sampling", verdict, facts)


class _Component(NamedTuple):
    """One part of a mixture: sample(n, rng) gives z (n, u), log_prob(z, theta) the density over theta."""

    weight: float
    sample: Callable[[int, np.random.Generator], F]
    log_prob: Callable[[F, F], F]


class _Mixture(NamedTuple):
    """The proposal g as a sampler of z = T(theta) and a density over theta."""

    components: list[_Component]

    def sample(self, n: int, rng: np.random.Generator) -> F:
        counts = rng.multinomial(n, [one.weight for one in self.components])
        drawn = zip(counts, self.components, strict=True)
        return np.concatenate([one.sample(int(count), rng) for count, one in drawn if count])

    def log_prob(self, z: F, theta: F) -> F:
        terms = [np.log(one.weight) + one.log_prob(z, theta) for one in self.components]
        return np.asarray(np.logaddexp.reduce(terms))


def _proposal(prior: Prior, posterior: Posterior, y: Any, of_q: float, student: Any) -> _Mixture:
    """The prior, q with weight `of_q` and, if there is one, the Student t, whose weight is the rest."""

    def from_prior(n: int, rng: np.random.Generator) -> F:
        return prior.to_unconstrained(prior.sample(n, rng))[0]

    def from_q(n: int, rng: np.random.Generator) -> F:
        theta = posterior.sample(y, n, seed=int(rng.integers(2**31))).values
        return prior.to_unconstrained(theta)[0]

    of_prior = 1 - of_q if student is None else _SECOND_OF_PRIOR
    components = [
        _Component(of_prior, from_prior, lambda z, theta: np.asarray(prior.log_prob(theta))),
        _Component(of_q, from_q, lambda z, theta: posterior.log_prob(theta, y)),
    ]
    if student is not None:

        def from_student(n: int, rng: np.random.Generator) -> F:
            return np.asarray(student.rvs(n, random_state=rng)).reshape(n, -1)

        def student_log_prob(z: F, theta: F) -> F:
            return np.asarray(student.logpdf(z).reshape(len(z)) + prior.to_unconstrained(theta)[1])

        rest = 1 - _SECOND_OF_PRIOR - of_q
        components.append(_Component(rest, from_student, student_log_prob))
    return _Mixture(components)


class _Weighted(NamedTuple):
    """Proposed z (n, u), their log weights (n,) and theta (n, d)."""

    z: F
    log_weights: F
    theta: F


def _weighted(simulator: Simulator, proposal: _Mixture, y: F, n: int, rng: np.random.Generator) -> _Weighted:
    z = proposal.sample(n, rng)
    theta = simulator.prior.from_unconstrained(z)
    likelihood = simulator.log_likelihood
    if likelihood is None:
        raise SimulatorContractError(f"{simulator.name} has no log_likelihood.")
    values = np.asarray(likelihood(simulator.prior.as_mapping(theta), y, rng), dtype=np.float64)
    if values.shape != (n,) or np.isnan(values).any() or not np.isfinite(values).any():
        raise SimulatorContractError(
            f"{simulator.name}.log_likelihood: wanted ({n},) numbers, not all -inf, got shape {values.shape} "
            f"with {int(np.isnan(values).sum())} NaN."
        )
    return _Weighted(z, values + simulator.prior.log_prob(theta) - proposal.log_prob(z, theta), theta)


def _rating_of_q(posterior: Posterior, pilot: _Mixture, y: Any, drawn: _Weighted) -> dict[str, float]:
    """How good a proposal q alone would be, from the pilot's last draws, which come from q."""
    last = slice(len(drawn.z) // 2, None)
    z, theta = drawn.z[last], drawn.theta[last]
    own = drawn.log_weights[last] + pilot.log_prob(z, theta) - posterior.log_prob(theta, y)
    return {"efficiency": efficiency(own), "pareto_k": pareto_k(own)}


def _student(drawn: _Weighted) -> Any:
    """A Student t with the weighted mean and an inflated covariance; weights are flattened if few count."""
    z, log_weights = drawn.z, drawn.log_weights - drawn.log_weights.max()
    weights = np.exp(log_weights)
    if 1 / np.square(weights / weights.sum()).sum() < 2 * z.shape[1] + 5:
        weights = np.exp(0.2 * log_weights)
    weights /= weights.sum()
    mean = weights @ z
    covariance = (weights[:, None] * (z - mean)).T @ (z - mean)
    identity = np.eye(len(mean))
    covariance += 1e-9 * np.trace(covariance) / len(mean) * identity + 1e-12 * identity
    return multivariate_t(mean, _INFLATION * covariance * (_DEGREES - 2) / _DEGREES, df=_DEGREES)


def _verdict(ess: float, n: int) -> Verdict:
    text = f"importance sampling with an unbiased likelihood: {ess:.0f} effective of {n} draws"
    if ess >= _GOOD_ESS:
        return Verdict("trust", f"{text}.")
    if ess >= _POOR_ESS:
        error = f"means are accurate to about {1 / np.sqrt(ess):.2f} standard deviations"
        return Verdict("caution", f"{text}; {error}.")
    advice = "Ask for more draws, or a less noisy likelihood estimate"
    return Verdict("do not trust", f"{text}: too few to call it exact. {advice}.")


def _draws(
    prior: Prior, values: F, weights: F | None, origin: str, verdict: Verdict, facts: dict[str, float]
) -> Draws:
    scalars = {name: marginal.scalar for name, marginal in prior.marginals.items()}
    return Draws(
        values=values,
        groups=groups_of(prior.slices, scalars),
        names=prior.names,
        labels=prior.labels,
        verdict=verdict,
        origin=origin,
        weights=weights,
        verdicts=(verdict,),
        facts={"simulations": 0, **facts},
    )
