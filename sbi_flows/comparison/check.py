"""`sf.check`: is this posterior calibrated over the prior, and has it learnt anything?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from sbi_flows.diagnostics.calibration import FALSE_ALARM, RankTest, rank_tests
from sbi_flows.draws import LEVELS, Level, Verdict
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate

if TYPE_CHECKING:
    import pandas

_SLIGHT_SHIFT, _LARGE_SHIFT = 0.1, 0.3
_SLIGHT_WIDTH, _LARGE_WIDTH = 1.1, 1.25
_LEAST_PAIRS = 100


@dataclass(frozen=True)
class Check:
    """The outcome of `sf.check`.

    tests: one a parameter and one for log q. gain: the mean of log q(theta | y) - log p(theta) over the n pairs, in nats.
    """

    posterior: Posterior
    tests: tuple[RankTest, ...]
    gain: float
    gain_error: float
    verdict: Verdict
    n: int

    @property
    def ok(self) -> bool:
        """Whether the verdict is "trust"."""
        return self.verdict.ok

    @property
    def level(self) -> Level:
        """The verdict's level: "trust", "caution" or "do not trust"."""
        return self.verdict.level

    @property
    def text(self) -> str:
        """The verdict in words."""
        return self.verdict.text

    @property
    def table(self) -> pandas.DataFrame:
        """Each quantity's z statistics with their limit, what they mean as shift (in sd) and relative width, and coverage."""
        import pandas

        return pandas.DataFrame(
            [
                {
                    "quantity": test.quantity,
                    "mean_z": test.mean_z,
                    "spread_z": test.spread_z,
                    "z_limit": test.z_limit,
                    "shift_sd": test.shift,
                    "width": test.width,
                    "coverage_50": test.coverage(0.5),
                    "coverage_90": test.coverage(0.9),
                    "verdict": _level(test)[0],
                }
                for test in self.tests
            ]
        )

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the check as one HTML file that needs nothing else."""
        from sbi_flows.comparison.check_page import write_check

        write_check(self, path)


def check(posterior: Posterior, simulator: Simulator, *, n: int = 1000, seed: int = 0) -> Check:
    """Judge `posterior` on `n` fresh pairs (theta, y) from prior and simulator.

    A quantity is flagged only where a rank statistic is beyond its limit (chance of any false alarm on an exact posterior 1e-4): "caution"
    where the shift is at most 0.3 sd and the width within a factor 1.25, else "do not trust"; a flagged but slight one (0.1 sd, 1.1)
    passes. A posterior whose log density gains nothing on the prior's is not trusted either.
    Raises `SettingsError`, `TooFewSimulationsError` (fewer than 100 pairs).
    """
    if simulator.prior != posterior.prior or simulator.event_shape != posterior.event_shape:
        raise SettingsError(
            f"the posterior is of {posterior.prior} and events {posterior.event_shape}, the simulator of another prior or shape."
        )
    if n < _LEAST_PAIRS:
        raise TooFewSimulationsError(f"check needs at least {_LEAST_PAIRS} pairs to say anything, got n={n}.")
    rng = stream(check_seed(seed), "check")
    theta, y = simulate(simulator, n, seed=int(rng.integers(2**31))).usable()

    def sampler(events: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return posterior.sample(events, draws, seed=int(rng.integers(2**31))).values

    def log_prob(values: NDArray[np.float64], events: NDArray[np.float64]) -> NDArray[np.float64]:
        return posterior.log_prob(values, events)

    y = np.asarray(y, dtype=np.float64)
    tests = rank_tests(sampler, theta, y, names=posterior.names, rng=rng, log_prob=log_prob)
    gains = posterior.log_prob(theta, y) - simulator.prior.log_prob(theta)
    gain, error = float(gains.mean()), float(gains.std() / np.sqrt(len(gains)))
    return Check(posterior, tuple(tests), gain, error, _verdict(tests, gain, error), len(theta))


def _level(test: RankTest) -> tuple[Level, str]:
    if not test.significant:
        return "trust", ""
    shift, width = abs(test.shift), max(test.width, 1 / test.width)
    words = f"{test.quantity}: shifted by {test.shift:+.2f} sd, {test.width:.2f} times the right width"
    if shift <= _SLIGHT_SHIFT and width <= _SLIGHT_WIDTH:
        return "trust", ""
    return ("caution" if shift <= _LARGE_SHIFT and width <= _LARGE_WIDTH else "do not trust"), words


def _verdict(tests: list[RankTest], gain: float, error: float) -> Verdict:
    found = [_level(test) for test in tests]
    reasons = [words for _, words in found if words]
    level = max((name for name, _ in found), key=LEVELS.index)
    if gain <= norm.isf(FALSE_ALARM) * error:
        level = "do not trust"
        reasons.append(f"its log density at the truth is {gain:+.2f} +- {error:.2f} nats from the prior's, so nothing reliable was learnt")
    if not reasons:
        return Verdict("trust", f"ranks, widths and coverage are those of a calibrated posterior; {gain:.2f} nats gained on the prior.")
    return Verdict(level, f"{'; '.join(reasons)}. Simulate more, train longer, or compare with ABC before you use it.")
