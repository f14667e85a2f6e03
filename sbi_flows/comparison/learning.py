"""`sf.learning_curve`: how many simulations are enough?

    L(n) = E[log q_n(theta | y)]  =  a - b n^-c        in nats, at pairs that no q_n has seen; q_n is fitted on the first n simulations

a is what this network could reach with any number of simulations, a - L(n) what n more are still worth. The fit is by least squares in
(a, b) for each c of a grid. Its error is that of the held-out pairs alone, by the bootstrap (the same pairs for every n, so what they share
cancels in differences); that of training anew is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.fit import fit
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.simulations import Simulations

if TYPE_CHECKING:
    import pandas

F = NDArray[np.float64]

_HELD_OUT, _RESAMPLES = 2000, 200
_LEAST_SIZES, _SHARES = 3, (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
_POWERS = np.linspace(0.2, 1.5, 27)
_ENOUGH = 0.05


@dataclass(frozen=True)
class LearningCurve:
    """sizes (s,): n; densities (s, m): log q_n at each held-out pair, in nats.

    a, b, c: of the fit; a_error: one standard error of a - L(n) at the largest n.
    """

    sizes: Float[np.ndarray, " s"]
    densities: Float[np.ndarray, "s m"]
    a: float
    b: float
    c: float
    a_error: float

    def predict(self, n: float) -> float:
        """The mean log density that n simulations should give, in nats."""
        return float(self.a - self.b * n**-self.c)

    @property
    def table(self) -> pandas.DataFrame:
        """n, mean log density with its standard error, the fit, and what is still to be gained."""
        import pandas

        mean = self.densities.mean(axis=1)
        error = self.densities.std(axis=1, ddof=1) / np.sqrt(self.densities.shape[1])
        fitted = [self.predict(float(n)) for n in self.sizes]
        return pandas.DataFrame(
            {"simulations": self.sizes.astype(int), "log_density": mean, "error": error, "fit": fitted, "to_gain": self.a - mean}
        )

    @property
    def text(self) -> str:
        """Whether the simulations are enough, in words."""
        most = float(self.sizes[-1])
        double = self.predict(2 * most) - self.predict(most)
        left = self.a - self.predict(most)
        verdict = "Enough for this network" if double < _ENOUGH else "More simulations would still help"
        return (
            f"{verdict}: twice {int(most):,} simulations should gain {double:.2f} nats, any number {left:.2f} ± {self.a_error:.2f} "
            f"(a - b n^-{self.c:.2f})."
        )


def learning_curve(
    simulator: Simulator,
    simulations: Simulations,
    *,
    sizes: Sequence[int] | None = None,
    settings: FitSettings | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> LearningCurve:
    """Fit on the first 1/16, 1/8, 1/4, 1/2 and all of `simulations` (or the first of `sizes`) and score each on 2,000 fresh pairs.

    Costs about twice one fit on all of them. progress(done, total, text): after each fit. Raises `SettingsError` for sizes that cannot be
    had, `TooFewSimulationsError`, and what `sf.fit` raises.
    """
    simulations.check_matches(simulator.prior, simulator.event_shape)
    chosen = sorted({int(share * len(simulations)) for share in _SHARES} if sizes is None else {int(size) for size in sizes})
    if len(chosen) < _LEAST_SIZES or chosen[0] < 1 or chosen[-1] > len(simulations):
        raise SettingsError(f"sizes must be at least {_LEAST_SIZES} different numbers from 1 to {len(simulations)}, got {chosen}.")
    rng = stream(check_seed(seed), "learning curve")
    theta, y = simulate(simulator, _HELD_OUT, seed=int(rng.integers(2**31))).usable()
    if len(theta) < _HELD_OUT // 4:
        raise TooFewSimulationsError(f"only {len(theta)} of {_HELD_OUT} held-out simulations are usable. Look at sims.failures().")
    densities = []
    for done, size in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen), f"{size:,} simulations")
        posterior = fit(simulator, simulations=_first(simulations, size), seed=seed, settings=settings, say=None)
        densities.append(posterior.log_prob(theta, np.asarray(y, dtype=np.float64)))
    return curve_through(np.array(chosen, dtype=np.float64), np.stack(densities), rng)


def curve_through(sizes: Float[np.ndarray, " s"], densities: Float[np.ndarray, "s m"], rng: np.random.Generator) -> LearningCurve:
    """The curve through the means of log densities at the same held-out pairs, with the error of its limit."""
    finite = densities[:, np.isfinite(densities).all(axis=0)]
    a, b, c = _fitted(sizes, finite.mean(axis=1))
    m = finite.shape[1]
    last = finite[-1].mean()
    lefts = []
    for _ in range(_RESAMPLES):
        mean = finite[:, rng.integers(m, size=m)].mean(axis=1)
        lefts.append(_fitted(sizes, mean)[0] - mean[-1] + last)
    return LearningCurve(sizes, finite, a, b, c, float(np.std(lefts, ddof=1)))


def _fitted(sizes: F, means: F) -> tuple[float, float, float]:
    best = (np.inf, float(means.max()), 0.0, 1.0)
    for c in _POWERS:
        x = -(sizes**-c)
        b = max(float(np.cov(x, means)[0, 1] / x.var(ddof=1)), 0.0)
        a = float(means.mean() - b * x.mean())
        left = float(np.square(means - a - b * x).sum())
        if left < best[0]:
            best = (left, a, b, float(c))
    return best[1:]


def _first(simulations: Simulations, n: int) -> Simulations:
    return replace(simulations, codes=simulations.codes[:n], records=tuple(one for one in simulations.records if one.row < n))
