"""`sf.learning_curve`: how many simulations are enough?

    L(n) = E[log q_n(theta | y)]  =  a - b n^-c        in nats, at held-out pairs

where q_n is fitted on the first n simulations. a is what this network could reach with any number of
simulations, and a - L(n) what it would still gain. The fit is by least squares in (a, b) for each c of a
grid. Its error comes from the choice of held-out pairs alone, by the bootstrap (the same pairs for every n,
so what they share cancels in differences); it does not include that of training again. Where the best c is an
end of the grid, the sizes do not show how the curve bends, and a is not determined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from sbi_flows.arrays import F, is_real
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.npe.settings import FitSettings, members_for
from sbi_flows.posterior.fit import fit
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.simulations import Simulations

if TYPE_CHECKING:
    import pandas

_HELD_OUT, _RESAMPLES = 2000, 200
_LEAST_SIZES, _PARTS = 3, (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
_POWERS = np.linspace(0.2, 1.5, 27)
_ENOUGH = 0.05


@dataclass(frozen=True)
class LearningCurve:
    """Held-out density by the number of simulations, and the curve fitted to it.

    sizes: the numbers of simulations n, (s,).
    densities: log q_n at each held-out pair, in nats, (s, m).
    a, b, c: of the fit.
    a_error: one standard error of a - L(n) at the largest n, from the choice of held-out pairs alone.
        Training again may well move it more.
    """

    sizes: Float[np.ndarray, " s"]
    densities: Float[np.ndarray, "s m"]
    a: float
    b: float
    c: float
    a_error: float

    @property
    def determined(self) -> bool:
        """Whether a and a_error mean anything: c is inside its grid, or the curve does not rise at all."""
        return self.b == 0 or bool(_POWERS[0] < self.c < _POWERS[-1])

    def predict(self, n: float) -> float:
        """The mean log density that n > 0 simulations should give, in nats. Raises `SettingsError`."""
        if not is_real(n) or not n > 0:
            raise SettingsError(f"n must be a positive number of simulations, got {n!r}.")
        return float(self.a - self.b * float(n) ** -self.c)

    @property
    def table(self) -> pandas.DataFrame:
        """A row per n: mean log density with its standard error, the fit, and what is still to gain."""
        import pandas

        mean = self.densities.mean(axis=1)
        error = self.densities.std(axis=1, ddof=1) / np.sqrt(self.densities.shape[1])
        fitted = [self.predict(float(n)) for n in self.sizes]
        return pandas.DataFrame(
            {
                "simulations": self.sizes.astype(int),
                "log_density": mean,
                "error": error,
                "fit": fitted,
                "to_gain": self.a - mean,
            }
        )

    @property
    def text(self) -> str:
        """Whether the simulations are enough, in words."""
        most = float(self.sizes[-1])
        double = self.predict(2 * most) - self.predict(most)
        limit = f"any number {self.a - self.predict(most):.2f} ± {self.a_error:.2f}"
        if not self.determined:
            limit = "and these sizes do not determine what any number would gain"
        verdict = "Enough for this network" if double < _ENOUGH else "More simulations would still help"
        gain = f"doubling the {int(most):,} simulations should gain {double:.2f} nats"
        return f"{verdict}: {gain}, {limit} (fit: a - b n^-{self.c:.2f})."


def learning_curve(
    simulator: Simulator,
    simulations: Simulations,
    *,
    sizes: Sequence[int] | None = None,
    settings: FitSettings | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> LearningCurve:
    """Fit on growing parts of `simulations` and score each fit on 2,000 fresh pairs.

    Costs about twice one fit on all of them. The error of the limit comes from the 2,000 pairs, not from
    training: fits from another seed can differ by more, so repeat with another seed where it matters.

    sizes: how many simulations each fit uses; by default 1/16, 1/8, 1/4, 1/2 and all of them.
    settings: where they leave the number of networks open, it is that of the largest size for every size, so
        that the curve is of one kind of fit. The weight decay is still that of each size.
    progress: called as progress(done, total, text) before each fit.

    Raises `SettingsError` for impossible sizes, `TooFewSimulationsError`, and what `sf.fit` raises.
    """
    _check_types(simulator, simulations, settings)
    total = len(simulations)
    chosen = _sizes([int(part * total) for part in _PARTS] if sizes is None else sizes, total)
    settings = settings or FitSettings()
    if settings.members is None:
        settings = replace(settings, members=members_for(int(_first(simulations, chosen[-1]).ok.sum())))
    rng = stream(check_seed(seed), "learning curve")
    theta, held_out = simulate(simulator, _HELD_OUT, seed=int(rng.integers(2**31))).usable()
    if len(theta) < _HELD_OUT // 4:
        raise TooFewSimulationsError(
            f"only {len(theta)} of {_HELD_OUT} held-out simulations are usable. Look at sims.failures()."
        )
    y = np.asarray(held_out, dtype=np.float64)
    densities = []
    for done, size in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen), f"{size:,} simulations")
        part = _first(simulations, size)
        posterior = fit(simulator, simulations=part, seed=seed, settings=settings, say=None)
        densities.append(posterior.log_prob(theta, simulator.events.unpack(y)))
    return curve_through(np.array(chosen, dtype=np.float64), np.stack(densities), rng)


def curve_through(
    sizes: Float[np.ndarray, " s"], densities: Float[np.ndarray, "s m"], rng: np.random.Generator
) -> LearningCurve:
    """The curve through the mean log densities at the same held-out pairs, with the error of its limit."""
    finite = densities[:, np.isfinite(densities).all(axis=0)]
    a, b, c = _fitted(sizes, finite.mean(axis=1))
    m = finite.shape[1]
    last = finite[-1].mean()
    limits = []
    for _ in range(_RESAMPLES):
        mean = finite[:, rng.integers(m, size=m)].mean(axis=1)
        limits.append(_fitted(sizes, mean)[0] - mean[-1] + last)
    return LearningCurve(sizes, finite, a, b, c, float(np.std(limits, ddof=1)))


def _check_types(simulator: object, simulations: object, settings: object) -> None:
    if not isinstance(simulator, Simulator) or not isinstance(simulations, Simulations):
        raise SettingsError(
            "learning_curve takes a simulator made with @sf.simulator(prior) and its simulations from "
            f"sf.simulate, got {type(simulator).__name__} and {type(simulations).__name__}."
        )
    if not isinstance(settings, FitSettings | None):
        raise SettingsError(f"settings must be sf.FitSettings(...), got {type(settings).__name__}.")
    simulations.check_matches(simulator.prior, simulator.event_shape)


def _sizes(sizes: object, most: int) -> list[int]:
    """The sizes in order, checked."""
    given = sizes.tolist() if isinstance(sizes, np.ndarray) else sizes
    wanted = f"sizes must be at least {_LEAST_SIZES} different integers from 1 to {most}"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SettingsError(f"{wanted}, as a list such as [500, 1000, 2000]; got {sizes!r}.")
    values = list(given)
    for size in values:
        if not is_real(size) or size % 1 != 0:
            raise SettingsError(f"{wanted}; got {size!r} among {values!r}.")
    chosen = sorted({int(size) for size in values})
    if len(chosen) < _LEAST_SIZES or chosen[0] < 1 or chosen[-1] > most:
        raise SettingsError(f"{wanted}, got {chosen}.")
    return chosen


def _fitted(sizes: F, means: F) -> tuple[float, float, float]:
    best = (np.inf, float(means.max()), 0.0, 1.0)
    for c in _POWERS:
        x = -(sizes**-c)
        b = max(float(np.cov(x, means)[0, 1] / x.var(ddof=1)), 0.0)
        a = float(means.mean() - b * x.mean())
        residual = float(np.square(means - a - b * x).sum())
        if residual < best[0]:
            best = (residual, a, b, float(c))
    return best[1:]


def _first(simulations: Simulations, n: int) -> Simulations:
    records = tuple(one for one in simulations.records if one.row < n)
    arrays = simulations.arrays and (simulations.theta[:n], simulations.flat_y[:n])
    return replace(simulations, codes=simulations.codes[:n], records=records, arrays=arrays)
