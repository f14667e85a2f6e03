"""Random-walk Metropolis chains in lock step, on a log density that is estimated by simulation.

    z' = z + c L e,   accepted with probability min(1, p(z') L^(z') / (p(z) L^(z)))

L^ of the present state is kept, not estimated anew: with an unbiased L^ >= 0 the chains then have the exact
target (Andrieu & Roberts 2009, Annals of Statistics 37:697). While they warm up, L follows the covariance of
all chains (Haario, Saksman & Tamminen 2001) and c the acceptance rate (Andrieu & Thoms 2008). One call
simulates for all chains.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.baselines.generations import log_prior
from sbi_flows.baselines.runs import Runs
from sbi_flows.baselines.synthetic_density import Estimator
from sbi_flows.rng import stream

_RATE, _DECAY, _ADAPT_FROM, _ADAPT_EVERY = 0.25, 0.6, 20, 10
_RIDGE = 1e-6


@dataclass
class Chains:
    """c chains in R^u.

    z, log_densities: (c, u) and (c,), of the prior, the estimate that is asked for, and the plug-in one. The
        chains warm up on the last, which leads to where the first is above 0.
    root (u, u), scale: L and c. history: z, and the estimates, of each step so far.
    """

    runs: Runs
    estimator: Estimator
    each: int
    warmup: int
    z: F
    log_prior: F
    asked: F
    plug_in: F
    root: F
    scale: float
    history: list[F] = field(default_factory=list)
    estimates: list[F] = field(default_factory=list)
    accepted: list[NDArray[np.bool_]] = field(default_factory=list)

    @property
    def step(self) -> int:
        """How many have been taken."""
        return len(self.history)

    def advance(self, generation: int, call: int) -> None:
        """Take one step. Raises `SpentError`, `TooManyFailuresError`."""
        warming = self.step < self.warmup
        rng = stream(self.runs.seed, "abc chains", self.step)
        noise, u = rng.standard_normal(self.z.shape), rng.random(len(self.z))
        proposed = self.z + self.scale * noise @ self.root.T
        theta, prior = log_prior(self.runs.simulator.prior, proposed)
        asked, plug_in = (np.full(len(self.z), -np.inf) for _ in range(2))
        tried = np.flatnonzero(prior > -np.inf)
        if len(tried):
            rows = self.runs.at(np.repeat(theta[tried], self.each, axis=0), generation, call)
            found = self.estimator(rows.reshape(len(tried), self.each, -1), self.runs.target.summaries)
            asked[tried], plug_in[tried] = found.asked, found.plug_in
        here, there = (self.plug_in, plug_in) if warming else (self.asked, asked)
        with np.errstate(invalid="ignore", divide="ignore"):
            log_ratio = there + prior - here - self.log_prior
            log_ratio = np.where(there == -np.inf, -np.inf, np.where(here == -np.inf, np.inf, log_ratio))
            taken = np.log(u) < log_ratio
        self.z = np.where(taken[:, None], proposed, self.z)
        self.log_prior = np.where(taken, prior, self.log_prior)
        self.asked, self.plug_in = (
            np.where(taken, new, old) for new, old in ((asked, self.asked), (plug_in, self.plug_in))
        )
        self.history.append(self.z.copy())
        self.estimates.append(np.where(warming, self.plug_in, self.asked))
        self.accepted.append(taken)
        if warming:
            self._adapt(float(np.exp(np.minimum(log_ratio, 0)).mean()))

    def _adapt(self, rate: float) -> None:
        self.scale *= float(np.exp((self.step + 1) ** -_DECAY * 2 * (rate - _RATE)))
        if self.step >= _ADAPT_FROM and self.step % _ADAPT_EVERY == 0:
            recent = np.concatenate(self.history[self.step // 2 :])
            spread = recent.std(axis=0)
            if (spread > 0).all():
                covariance = np.atleast_2d(np.cov(recent.T))
                self.root = np.asarray(np.linalg.cholesky(covariance + _RIDGE * np.diag(np.square(spread))))

    def arrays(self) -> dict[str, F]:
        """For a file, with `facts`."""
        now = {name: getattr(self, name) for name in ("z", "log_prior", "asked", "plug_in", "root")}
        return {
            **now,
            "history": np.array(self.history),
            "estimates": np.array(self.estimates),
            "accepted": np.array(self.accepted, dtype=np.uint8),
            "floor": self.estimator.floor,
        }

    def facts(self) -> dict[str, Any]:
        """What else a file says, in JSON."""
        return {
            "scale": self.scale,
            "warmup": self.warmup,
            "each": self.each,
            "kind": self.estimator.kind,
            "keep": self.estimator.keep,
        }

    @classmethod
    def of(cls, runs: Runs, arrays: dict[str, F], facts: dict[str, Any]) -> Chains:
        """Back from `arrays` and `facts`."""
        return cls(
            runs=runs,
            estimator=Estimator(facts["kind"], arrays["floor"].copy(), facts["keep"]),
            each=facts["each"],
            warmup=facts["warmup"],
            z=arrays["z"].copy(),
            log_prior=arrays["log_prior"].copy(),
            asked=arrays["asked"].copy(),
            plug_in=arrays["plug_in"].copy(),
            root=arrays["root"].copy(),
            scale=facts["scale"],
            history=list(arrays["history"]),
            estimates=list(arrays["estimates"]),
            accepted=list(arrays["accepted"].astype(np.bool_)),
        )
