"""Rejection ABC, the baseline: keep the simulations whose summaries are nearest to the observed ones.

    p_eps(theta | y)  proportional to  p(theta) P( ||(s(y') - s(y)) / MAD|| <= eps | theta ),
    eps = a quantile of the distances

(Beaumont, Zhang & Balding 2002, Genetics 162:2025). With `adjust="linear"`, theta is regressed on the
summaries with Epanechnikov weights K = 1 - (distance / eps)^2 and moved to the observed summaries, in the
unconstrained coordinates z = T(theta), so that no draw leaves the prior:

    z_i* = z_i - B (s_i - s(y)),   (a, B) = argmin sum_i K_i ||z_i - a - B (s_i - s(y))||^2
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from sbi_flows.arrays import F, real
from sbi_flows.baselines.target import Target
from sbi_flows.draws import Draws, groups_of
from sbi_flows.errors import ObservationError, SettingsError, TooFewSimulationsError
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.verdict import Verdict

_LEAST_ACCEPTED = 20
_PSEUDO_OBSERVATIONS = 500
_CAUTION_AT, _DISTRUST_AT, _FAR, _LARGE_SHARE = 0.01, 0.001, 3.0, 0.2


def rejection_abc(
    simulator: Simulator | None = None,
    y_obs: Any = None,
    *,
    simulations: Simulations,
    quantile: float = 0.01,
    adjust: Literal["linear"] | None = None,
) -> Draws:
    """Approximate posterior draws for one observation, from existing simulations.

    Distances are Euclidean on the simulator's summaries (on y itself where it declares none), each divided by
    its median absolute deviation over the simulations. Summaries that do not vary are left out. What is
    missing in the observation is left out of the simulations too.

    simulator: None for pairs that were made elsewhere; distances are then on y itself.
    quantile: the share of simulations to accept, in (0, 1].
    adjust: "linear" for regression adjustment; the draws then carry weights.

    `facts` holds the tolerance and the numbers of summaries used and simulations accepted. The verdict
    compares the tolerance with those of simulated data sets. Raises `SettingsError`, `ShapeError`,
    `ObservationError`, `TooFewSimulationsError`.
    """
    quantile = real("quantile", quantile, positive=True, most=1)
    if adjust not in (None, "linear"):
        raise SettingsError(f"adjust must be None or 'linear', got {adjust!r}.")
    target = Target.of(simulator, y_obs, simulations, "rejection_abc")
    simulator, prior = target.simulator, target.simulator.prior
    scaled = _scaled(target, simulations)
    accepted = _number_accepted(quantile, scaled, adjusted=adjust is not None)
    with np.errstate(over="ignore"):
        distances = np.sqrt(np.square(scaled.summaries - scaled.target).sum(axis=1))
    nearest = np.argpartition(distances, accepted - 1)[:accepted]
    nearest = nearest[np.argsort(distances[nearest], kind="stable")]
    tolerance = float(distances[nearest[-1]])
    values, weights = scaled.theta[nearest], None
    if adjust is not None:
        offsets = scaled.summaries[nearest] - scaled.target
        values, weights = _adjusted(prior, values, offsets, distances[nearest])
    verdict = _verdict(scaled.summaries, tolerance, accepted, simulations.seed)
    return Draws(
        values=values,
        groups=groups_of(prior.slices, {name: marginal.scalar for name, marginal in prior.marginals.items()}),
        names=prior.names,
        labels=prior.labels,
        verdict=verdict,
        origin="rejection ABC" if adjust is None else "rejection ABC, linear adjustment",
        weights=weights,
        verdicts=(verdict,),
        facts={
            "simulations": len(scaled.theta),
            "simulator": simulator.name,
            "accepted": accepted,
            "tolerance": tolerance,
            "summaries": scaled.summaries.shape[1],
            "left_out": scaled.left_out,
        },
    )


class _Scaled(NamedTuple):
    """Simulations with finite summaries: theta (n, d); the k summaries that vary, divided by their MAD, of
    simulations (n, k) and observation (k,); what was left out, in words.
    """

    theta: F
    summaries: F
    target: F
    left_out: str


def _scaled(aim: Target, simulations: Simulations) -> _Scaled:
    theta, y = simulations.usable()
    summaries, target = aim.summarise(y), aim.summaries
    finite = np.isfinite(summaries).all(axis=1)
    theta, summaries = theta[finite], summaries[finite]
    if not len(theta) or not np.isfinite(target).all():
        raise TooFewSimulationsError(
            "the summaries of the observation, or of all simulations, are not finite: ABC needs them."
        )
    distances = np.abs(summaries - np.median(summaries, axis=0))
    mad = np.median(distances, axis=0)
    mad = np.where(mad > 0, mad, distances.mean(axis=0))
    varies = mad > 0
    counts = {
        "simulations with summaries that are not finite": int((~finite).sum()),
        "summaries that do not vary": int((~varies).sum()),
    }
    left_out = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    return _Scaled(theta, summaries[:, varies] / mad[varies], target[varies] / mad[varies], left_out)


def _number_accepted(quantile: float, scaled: _Scaled, *, adjusted: bool) -> int:
    n, k = scaled.summaries.shape
    accepted = int(np.ceil(quantile * n))
    least = max(_LEAST_ACCEPTED, 2 * (k + 1) if adjusted else 0)
    if accepted < least:
        raise TooFewSimulationsError(
            f"a quantile of {quantile:g} accepts {accepted} of {n:,} simulations, but {least} are needed. "
            "Raise the quantile or simulate more."
        )
    return accepted


def _adjusted(prior: Prior, theta: F, offsets: F, distances: F) -> tuple[F, F]:
    """theta moved to the observed summaries, and the Epanechnikov weights. distances: ascending."""
    tolerance = distances[-1]
    kernel = np.ones(len(distances))
    if 0 < tolerance < np.inf:
        kernel = 1 - np.square(distances / tolerance)
    if not np.isfinite(tolerance) or not kernel.any():
        raise ObservationError(
            "the observed data are too far from all simulations for a linear adjustment. "
            "Check their units, or pass adjust=None."
        )
    z, _ = prior.to_unconstrained(theta)
    root = np.sqrt(kernel)[:, None]
    regressors = np.concatenate([np.ones((len(z), 1)), offsets], axis=1)
    coefficients, *_ = np.linalg.lstsq(root * regressors, root * z, rcond=None)
    return prior.from_unconstrained(z - offsets @ coefficients[1:]), kernel / kernel.sum()


def _verdict(summaries: F, tolerance: float, accepted: int, seed: int) -> Verdict:
    """Rank the tolerance among those of simulated data sets, with as many simulations accepted."""
    n, usual = len(summaries), _usual_tolerances(summaries, accepted, seed)
    smaller = float((usual < tolerance).mean())
    p = (1 + (usual >= tolerance).sum()) / (1 + len(usual))
    found = f"the tolerance {tolerance:.3g} is at quantile {smaller:.3f} of those of simulated data sets"
    if tolerance / max(float(usual.max()), 1e-300) > _FAR or p <= _DISTRUST_AT:
        far = "no simulation comes near the observation. Check the data, the prior and the simulator"
        return Verdict("do not trust", f"{found}: {far}.", smaller)
    if accepted > _LARGE_SHARE * n:
        near = "are" if accepted == n else "may be closer to"
        few = f"{accepted:,} of {n:,} simulations were accepted, so these {near} draws from the prior"
        return Verdict("do not trust" if accepted == n else "caution", f"{few}. Simulate more.", smaller)
    if p <= _CAUTION_AT:
        return Verdict("caution", f"{found}: few simulations come near the observation.", smaller)
    return Verdict("trust", f"{found}.", smaller)


def _usual_tolerances(summaries: F, accepted: int, seed: int) -> F:
    """The tolerance of each of up to 500 simulated data sets, which is not among the accepted itself."""
    n = len(summaries)
    chosen = stream(seed, "abc pseudo-observations").choice(n, min(_PSEUDO_OBSERVATIONS, n), replace=False)
    furthest = min(accepted, n - 1) - 1
    squares = np.square(summaries).sum(axis=1)
    usual = np.empty(len(chosen))
    for i, row in enumerate(chosen):
        others = squares - 2 * summaries @ summaries[row] + squares[row]
        others[row] = np.inf
        usual[i] = np.sqrt(max(np.partition(others, furthest)[furthest], 0))
    return usual
