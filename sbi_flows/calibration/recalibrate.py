"""`sf.recalibrate`: an affine map that corrects the bias and dispersion of a mildly miscalibrated posterior.

    theta = T^-1(zeta; s(y)),   zeta ~ N(b, diag(a^2)) instead of N(0, I)
    (a, b) = argmax sum_i log q(theta_i | y_i; a, b)        over held-out pairs

is the posterior of a flow with one more affine layer, so its density stays normalised and its draws stay
inside the prior's support. A scale and a shift per dimension cannot teach a posterior what it did not learn
from the data; they correct bias and dispersion on average over the prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from sbi_flows.arrays import F
from sbi_flows.calibration.check import check
from sbi_flows.calibration.result import Check
from sbi_flows.errors import TooFewSimulationsError
from sbi_flows.notes import Note
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.engine import simulate
from sbi_flows.verdict import LEVELS

_LEAST_PAIRS = 500
_LEAST_GAIN = 1e-3


@dataclass(frozen=True)
class Recalibration:
    """The recalibrated posterior, and checks of the old and the new one on the same fresh held-out pairs."""

    posterior: Posterior
    before: Check
    after: Check

    @property
    def better(self) -> bool:
        """Whether the verdict improves without loss of log density, or stays and 0.001 nats are gained."""
        old, new = LEVELS.index(self.before.level), LEVELS.index(self.after.level)
        return new <= old and self._gained >= (0 if new < old else _LEAST_GAIN)

    @property
    def text(self) -> str:
        """What it did, in words."""
        use = "Use the new one"
        if not self.better:
            same = self.after.level == self.before.level and abs(self._gained) < _LEAST_GAIN
            use = f"Keep the old one: recalibration {'gains nothing' if same else 'does not help'}"
        levels = f"before: {self.before.level}, after: {self.after.level}"
        return f"{levels}; {self._gained:+.3f} nats of log density at fresh pairs. {use}."

    @property
    def _gained(self) -> float:
        return self.after.gain - self.before.gain


def recalibrate(
    posterior: Posterior,
    simulator: Simulator,
    *,
    n: int = 2000,
    n_check: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Recalibration:
    """Fit the map on `n` fresh pairs, and check both posteriors on `n_check` others.

    Raises `SettingsError` for a simulator that is not the posterior's, and `TooFewSimulationsError` for fewer
    than 500 usable pairs.
    """
    check_pair(posterior, simulator, "recalibrate")
    rng = stream(check_seed(seed), "recalibrate")
    theta, y = simulate(simulator, n, seed=int(rng.integers(2**31))).usable()
    if len(theta) < _LEAST_PAIRS:
        raise TooFewSimulationsError(
            f"recalibration needs at least {_LEAST_PAIRS} usable pairs, got {len(theta)}. Raise n."
        )
    shift, scale = _fitted(posterior, theta, np.asarray(y, dtype=np.float64))
    moved = ", ".join(f"{b:+.3f} ± {a:.3f}" for b, a in zip(shift, scale, strict=True))
    kept = [note for note in posterior.notes if note.kind != "recalibrated"]
    notes = (*kept, Note("recalibrated", pairs=len(theta), noise=moved))
    new = replace(posterior, noise_shift=shift, noise_scale=scale, notes=notes)
    before = check(posterior, simulator, n=n_check, seed=seed, progress=progress)
    return Recalibration(new, before, check(new, simulator, n=n_check, seed=seed, progress=progress))


def _fitted(posterior: Posterior, theta: F, y: F) -> tuple[F, F]:
    """b and a by maximum likelihood, in place of any map that the posterior had before."""
    zeta, log_det = posterior.noise(theta, y)
    u = zeta.shape[-1]

    def loss(parameters: F) -> tuple[float, F]:
        shift, log_scale = parameters[:u], parameters[u:]
        standard = (zeta - shift) / np.exp(log_scale)
        each = log_det - 0.5 * np.square(standard).sum(axis=-1) - log_scale.sum()
        total = logsumexp(each, axis=0)
        weights = np.exp(each - total)[..., None]
        by_shift = (weights * standard / np.exp(log_scale)).sum(axis=0).mean(axis=0)
        by_scale = (weights * (np.square(standard) - 1)).sum(axis=0).mean(axis=0)
        return float(-total.mean()), -np.concatenate([by_shift, by_scale])

    found = minimize(loss, np.zeros(2 * u), jac=True, method="L-BFGS-B")
    return np.asarray(found.x[:u]), np.exp(found.x[u:])
