"""Exact posterior draws, where the simulator knows its posterior or can estimate its likelihood without bias.

With an unbiased estimate p^(y | theta), importance sampling on theta and the estimator's own randomness
together is exact (Andrieu & Roberts 2009; Tran et al. 2013, IS^2, 1309.3339):

    w_i = p^(y | theta_i) p(theta_i) / g(theta_i),   theta_i ~ g

A pilot round proposes from the neural posterior and, in one draw of five, from the prior, so a wrong q cannot
hide mass. The second round proposes from a Student t fitted to the pilot in unconstrained coordinates, from q
and from the prior, and alone gives the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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

_PILOT = 800
_DEGREES, _INFLATION = 5.0, 1.3
_Part = tuple[float, Callable[[int, np.random.Generator], F], Callable[[F, F], F]]
_GOOD_ESS, _POOR_ESS = 200, 50


def exact_draws(simulator: Simulator, posterior: Posterior, y: F, n: int, *, seed: int) -> Draws | None:
    """Draws from the exact posterior at y, or None where the simulator offers neither way.

    Where importance sampling was used, `facts["log_evidence"]` is log p(y) in nats, and `facts["efficiency"]`
    and `facts["pareto_k"]` say how good a proposal q alone is (`diagnostics/importance.py`).
    """
    rng = stream(seed, "exact")
    if simulator.exact_posterior is not None:
        values = np.asarray(simulator.exact_posterior(y, n, rng), dtype=np.float64)
        if values.shape != (n, simulator.prior.d):
            raise SimulatorContractError(
                f"{simulator.name}.exact_posterior: returned shape {values.shape}; wanted ({n}, "
                f"{simulator.prior.d})."
            )
        return _draws(
            simulator.prior,
            values,
            None,
            "exact, closed form",
            Verdict("trust", "draws from the posterior in closed form."),
            {},
        )
    if simulator.log_likelihood is None:
        return None
    pilot = _Mixture(simulator.prior, posterior, y, 0.8, None)
    z, log_weights, theta = _weighted(simulator, pilot, y, min(_PILOT, n), rng)
    of_q = _weights_of_q(posterior, pilot, y, z, log_weights, theta)
    second = _Mixture(simulator.prior, posterior, y, 0.25, _student(z, log_weights))
    z, log_weights, theta = _weighted(simulator, second, y, n, rng)
    largest = log_weights.max()
    weights = np.exp(log_weights - largest)
    evidence = float(largest + np.log(weights.mean()))
    weights /= weights.sum()
    ess = float(1 / np.square(weights).sum())
    return _draws(
        simulator.prior,
        theta,
        weights,
        "exact, importance sampling",
        _verdict(ess, n),
        {"log_evidence": evidence, **of_q},
    )


@dataclass(frozen=True)
class _Mixture:
    """The proposal g = 0.05..0.2 prior + share q + the rest Student t, as a density over z = T(theta)."""

    prior: Prior
    posterior: Posterior
    y: F
    share: float
    student: Any

    @property
    def parts(self) -> list[_Part]:
        def from_prior(n: int, rng: np.random.Generator) -> F:
            return self.prior.to_unconstrained(self.prior.sample(n, rng))[0]

        def from_q(n: int, rng: np.random.Generator) -> F:
            return self.prior.to_unconstrained(
                self.posterior.sample(self.y, n, seed=int(rng.integers(2**31))).values
            )[0]

        parts: list[_Part] = [
            (
                1 - self.share if self.student is None else 0.05,
                from_prior,
                lambda z, theta: np.asarray(self.prior.log_prob(theta)),
            ),
            (self.share, from_q, lambda z, theta: self.posterior.log_prob(theta, self.y)),
        ]
        student = self.student
        if student is not None:
            parts.append(
                (
                    0.95 - self.share,
                    lambda n, rng: student.rvs(n, random_state=rng).reshape(n, -1),
                    lambda z, theta: (
                        student.logpdf(z).reshape(len(z)) + self.prior.to_unconstrained(theta)[1]
                    ),
                )
            )
        return parts

    def sample(self, n: int, rng: np.random.Generator) -> F:
        parts = self.parts
        counts = rng.multinomial(n, [share for share, _, _ in parts])
        return np.concatenate(
            [draw(int(count), rng) for count, (_, draw, _) in zip(counts, parts, strict=True) if count]
        )

    def log_prob(self, z: F, theta: F) -> F:
        """The density over theta."""
        return np.asarray(
            np.logaddexp.reduce([np.log(share) + log_prob(z, theta) for share, _, log_prob in self.parts])
        )


def _weighted(
    simulator: Simulator, proposal: _Mixture, y: F, n: int, rng: np.random.Generator
) -> tuple[F, F, F]:
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
    return z, values + simulator.prior.log_prob(theta) - proposal.log_prob(z, theta), theta


def _weights_of_q(
    posterior: Posterior, pilot: _Mixture, y: F, z: F, log_weights: F, theta: F
) -> dict[str, float]:
    """Of the pilot's draws, those from q are the last: as if q had been the only proposal."""
    last = slice(len(z) // 2, None)
    joint = log_weights[last] + pilot.log_prob(z[last], theta[last])
    own = joint - posterior.log_prob(theta[last], y)
    return {"efficiency": efficiency(own), "pareto_k": pareto_k(own)}


def _student(z: F, log_weights: F) -> Any:
    weights = np.exp(log_weights - log_weights.max())
    if 1 / np.square(weights / weights.sum()).sum() < 2 * z.shape[1] + 5:
        weights = np.exp(0.2 * (log_weights - log_weights.max()))
    weights /= weights.sum()
    mean = weights @ z
    covariance = (weights[:, None] * (z - mean)).T @ (z - mean)
    covariance += 1e-9 * np.trace(covariance) / len(mean) * np.eye(len(mean)) + 1e-12 * np.eye(len(mean))
    return multivariate_t(mean, _INFLATION * covariance * (_DEGREES - 2) / _DEGREES, df=_DEGREES)


def _verdict(ess: float, n: int) -> Verdict:
    text = f"importance sampling with an unbiased likelihood: {ess:.0f} effective of {n} draws"
    if ess >= _GOOD_ESS:
        return Verdict("trust", f"{text}.")
    if ess >= _POOR_ESS:
        return Verdict(
            "caution", f"{text}; means are good to about {1 / np.sqrt(ess):.2f} standard deviations."
        )
    return Verdict(
        "do not trust",
        f"{text}: too few to call it exact. Ask for more draws, or a less noisy likelihood estimate.",
    )


def _draws(
    prior: Prior, values: F, weights: F | None, origin: str, verdict: Verdict, facts: dict[str, float]
) -> Draws:
    groups = groups_of(prior.slices, {name: marginal.scalar for name, marginal in prior.marginals.items()})
    return Draws(
        values, groups, prior.names, verdict, origin, weights, (verdict,), {"simulations": 0, **facts}
    )
