"""Regression adjustment: accepted draws are moved, and their spread changed, to what the regression of theta
on the summaries says of the observed ones. In the unconstrained coordinates z = T(theta), so that no draw
leaves the prior, with Epanechnikov weights K = 1 - (distance / tolerance)^2:

    linear, ridge   z_i* = z_i + B (s(y) - s_i)                              (Beaumont, Zhang & Balding 2002)
    neural          z_i* = m(s(y)) + (z_i - m(s_i)) sigma(s(y)) / sigma(s_i)  (Blum & Francois 2010)

(Genetics 162:2025; Statistics and Computing 20:63.) Ridge is linear with a penalty, for many or nearly
collinear summaries (Blum, Nunes, Prangle & Sisson 2013); `baselines.regression` and `networks` have the fits.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from sbi_flows.arrays import F
from sbi_flows.baselines.regression import fit_linear, fit_ridge
from sbi_flows.errors import ObservationError, SettingsError
from sbi_flows.problem.prior import Prior

Adjustment = Literal["linear", "ridge", "neural"]
ADJUSTMENTS = get_args(Adjustment)
LEAST_FOR_NETWORKS = 100
_MEMBERS = 5


def check_adjustment(adjust: object) -> None:
    """Raise `SettingsError` unless it is the name of an adjustment, or None."""
    if adjust is not None and adjust not in ADJUSTMENTS:
        raise SettingsError(
            f"adjust must be None or one of {', '.join(map(repr, ADJUSTMENTS))}, got {adjust!r}."
        )


def least_accepted(adjust: Adjustment | None, summaries: int) -> int:
    """How many draws an adjustment by that number of summaries needs."""
    if adjust is None:
        return 0
    return LEAST_FOR_NETWORKS if adjust == "neural" else 2 * (summaries + 1) if adjust == "linear" else 0


def epanechnikov(distances: F, tolerance: float) -> F:
    """K of each distance, at most the tolerance; all one where that is 0. Raises `ObservationError` where no
    weight is left.
    """
    kernel = np.ones(len(distances))
    if 0 < tolerance < np.inf:
        kernel = 1 - np.square(distances / tolerance)
    if not np.isfinite(tolerance) or not kernel.any():
        raise ObservationError(
            "the observed data are too far from all simulations for a regression adjustment. Check their "
            "units, or pass adjust=None."
        )
    return kernel


def adjusted(
    prior: Prior,
    theta: Float[np.ndarray, "m d"],
    offsets: Float[np.ndarray, "m k"],
    kernel: Float[np.ndarray, " m"],
    adjust: Adjustment,
    seed: int,
) -> Float[np.ndarray, "m d"]:
    """theta moved to the observed summaries. offsets: (s_i - s(y)) / scale. seed: of networks."""
    z, _ = prior.to_unconstrained(theta)
    here = np.zeros((1, offsets.shape[1]))
    if adjust == "neural":
        from sbi_flows.baselines.networks import fit_networks

        networks = fit_networks(offsets, z, kernel, seed, members=_MEMBERS, spreads=True)
        (mean, log_sd), (mean_here, log_sd_here) = networks(offsets), networks(here)
        return prior.from_unconstrained(mean_here + (z - mean) * np.exp(log_sd_here - log_sd))
    fit = (fit_linear if adjust == "linear" else fit_ridge)(offsets, z, kernel)
    return prior.from_unconstrained(z + fit(here) - fit(offsets))
