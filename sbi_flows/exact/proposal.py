"""Where proposals come from: mixtures, in the prior's unconstrained coordinates z in R^u, of

the prior                       a fixed share, so that nothing stays hidden where the rest is wrong
q                               the posterior that is to be refined, or any other first guess
Student t distributions         fitted to weighted draws

g(z) = a_p p_Z(z) + a_q q_Z(z) + a_t t(z),       p_Z(z) = p(theta) |dtheta/dz|
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.exact.students import StudentMixture
from sbi_flows.problem.prior import Prior


class Proposal(Protocol):
    """A distribution over z in R^u that can be drawn from, with its density."""

    def sample(self, n: int, rng: np.random.Generator) -> F:
        """n draws (n, u)."""

    def log_prob(self, z: F) -> F:
        """The log density of each row of z (n, u), (n,), in nats."""


@dataclass(frozen=True)
class FromPrior:
    """The prior as a distribution over z."""

    prior: Prior

    def sample(self, n: int, rng: np.random.Generator) -> F:
        """n draws (n, u)."""
        return self.prior.to_unconstrained(self.prior.sample(n, rng))[0]

    def log_prob(self, z: F) -> F:
        """log p_Z(z), (n,)."""
        theta = self.prior.from_unconstrained(z)
        return np.asarray(self.prior.log_prob(theta) - self.prior.to_unconstrained(theta)[1])


@dataclass(frozen=True, eq=False)
class Points:
    """Proposed z (n, u) with theta (n, d) and the log densities of prior and q there, (n,); that of q is
    empty where no mixture needs it.
    """

    z: F
    theta: F
    log_prior: F
    log_q: F

    @property
    def _columns(self) -> tuple[F, F, F, F]:
        return self.z, self.theta, self.log_prior, self.log_q

    def first(self, n: int) -> Points:
        """The first n."""
        return Points(*(column[:n] for column in self._columns))

    def at(self, rows: NDArray[np.int64]) -> Points:
        """Some of them."""
        return Points(*(column[rows] if len(column) else column for column in self._columns))

    def joined(self, other: Points) -> Points:
        """These and the others."""
        columns = zip(self._columns, other._columns, strict=True)
        return Points(*(np.concatenate(pair) for pair in columns))


@dataclass(frozen=True, eq=False)
class Sources:
    """What mixtures are made of."""

    prior: Prior
    q: Proposal

    def at(self, z: F, *, with_q: bool) -> Points:
        """The densities of the sources at z."""
        log_prior = FromPrior(self.prior).log_prob(z)
        log_q = self.q.log_prob(z) if with_q else np.zeros(0)
        return Points(z, self.prior.from_unconstrained(z), log_prior, log_q)


@dataclass(frozen=True, eq=False)
class Mixture:
    """of_prior, of_q: their weights; the rest is that of the Student t mixture."""

    sources: Sources
    of_prior: float
    of_q: float
    students: StudentMixture | None = None

    def without_q(self) -> Mixture:
        """The same with the share of q given to the others."""
        if self.students is None:
            return Mixture(self.sources, 1.0, 0.0)
        return Mixture(self.sources, self.of_prior / (1 - self.of_q), 0.0, self.students)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[F, NDArray[np.bool_]]:
        """z (n, u) in random order, so that any first part of them is a sample too, and which came from q."""
        of_students = 0.0 if self.students is None else 1 - self.of_prior - self.of_q
        source = rng.choice(3, n, p=[self.of_prior, self.of_q, of_students])
        z = np.empty((n, self.sources.prior.unconstrained_dim))
        parts: list[Proposal | None] = [FromPrior(self.sources.prior), self.sources.q, self.students]
        for k, part in enumerate(parts):
            rows = source == k
            if part is not None and rows.any():
                z[rows] = part.sample(int(rows.sum()), rng)
        return z, source == 1

    def log_prob(self, at: Points) -> F:
        """log g, (n,)."""
        terms = [np.log(self.of_prior) + at.log_prior]
        if self.of_q:
            terms.append(np.log(self.of_q) + at.log_q)
        if self.students is not None:
            terms.append(np.log(1 - self.of_prior - self.of_q) + self.students.log_prob(at.z))
        return np.asarray(np.logaddexp.reduce(terms))
