"""Rejection ABC, the baseline: keep the simulations whose summaries are nearest to the observed ones.

    p_eps(theta | y) proportional to  p(theta) P( ||(s(y') - s(y)) / MAD|| <= eps | theta ),   eps = a
    quantile of the distances

(Beaumont, Zhang & Balding 2002, Genetics 162:2025). With `adjust="linear"`, theta is regressed on the
summaries with Epanechnikov weights K = 1 - (distance / eps)^2 and moved to the observed summaries, in the
unconstrained coordinates z = T(theta), so that no draw
leaves the prior:

    z_i* = z_i - B (s_i - s(y)),   (a, B) = argmin sum_i K_i ||z_i - a - B (s_i - s(y))||^2
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sbi_flows.arrays import F
from sbi_flows.draws import Draws, groups_of
from sbi_flows.errors import ObservationError, SettingsError, TooFewSimulationsError
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.verdict import Verdict

_LEAST_ACCEPTED = 20
_PSEUDO_OBSERVATIONS = 500
_CAUTION_AT, _DISTRUST_AT, _FAR, _MOST_SHARE = 0.01, 0.001, 3.0, 0.2


def rejection_abc(
    simulator: Simulator,
    y_obs: ArrayLike,
    *,
    simulations: Simulations,
    quantile: float = 0.01,
    adjust: Literal["linear"] | None = None,
) -> Draws:
    """Approximate posterior draws for one observation, from simulations made before.

    quantile: the share of simulations to accept. Distances are Euclidean on the simulator's summaries (on y
    itself where it declares none), each divided by its median absolute deviation over the simulations;
    summaries that do not vary are left out.

    Draws carry weights where `adjust` is given; `facts` holds tolerance, summaries used and the number
    accepted; the verdict compares the tolerance with those of simulated data sets. Raises `SettingsError`,
    `ShapeError`, `ObservationError`, `TooFewSimulationsError`.
    """
    if not 0 < quantile <= 1:
        raise SettingsError(f"quantile must lie in (0, 1], got {quantile!r}.")
    if adjust not in (None, "linear"):
        raise SettingsError(f"adjust must be None or 'linear', got {adjust!r}.")
    if not isinstance(simulations, Simulations):
        raise SettingsError(
            f"simulations must come from sf.simulate or sf.read_bank(path), got {type(simulations).__name__}."
        )
    simulations.check_matches(simulator.prior, simulator.event_shape)
    observed = simulator.check_observation(y_obs)
    theta, y = simulations.usable()
    summaries, target = simulator.compute_summaries(y), simulator.compute_summaries(observed[None])[0]
    theta, summaries, target, left_out = _scaled(theta, summaries, target)
    accepted = int(np.ceil(quantile * len(theta)))
    least = max(_LEAST_ACCEPTED, 0 if adjust is None else 2 * (len(target) + 1))
    if accepted < least:
        raise TooFewSimulationsError(
            f"a quantile of {quantile:g} accepts {accepted} of {len(theta):,} simulations; at least {least} "
            f"are needed. "
            "Raise the quantile or simulate more."
        )
    with np.errstate(over="ignore"):
        distances = np.sqrt(np.square(summaries - target).sum(axis=1))
    nearest = np.argpartition(distances, accepted - 1)[:accepted]
    nearest = nearest[np.argsort(distances[nearest], kind="stable")]
    tolerance = float(distances[nearest[-1]])
    values, weights = theta[nearest], None
    if adjust == "linear" and not np.isfinite(tolerance):
        raise ObservationError(
            "the observed data are too far from all simulations for a linear adjustment. Check their units; "
            "adjust=None."
        )
    if adjust == "linear":
        kernel = 1 - np.square(distances[nearest] / tolerance) if tolerance > 0 else np.ones(accepted)
        values, weights = (
            _linear(simulator, values, summaries[nearest] - target, kernel),
            kernel / kernel.sum(),
        )
    prior = simulator.prior
    verdict = _judge(summaries, tolerance, accepted, simulations.seed)
    return Draws(
        values=values,
        groups=groups_of(prior.slices, {name: marginal.scalar for name, marginal in prior.marginals.items()}),
        names=prior.names,
        verdict=verdict,
        origin="rejection ABC" if adjust is None else "rejection ABC, linear adjustment",
        weights=weights,
        verdicts=(verdict,),
        facts={
            "simulations": len(theta),
            "simulator": simulator.name,
            "accepted": accepted,
            "tolerance": tolerance,
            "summaries": len(target),
            "left_out": left_out,
        },
    )


def _scaled(theta: F, summaries: F, target: F) -> tuple[F, F, F, str]:
    """Rows with finite summaries, columns that vary, each divided by its MAD; and in words what was left
    out.
    """
    finite = np.isfinite(summaries).all(axis=1)
    theta, summaries = theta[finite], summaries[finite]
    if not len(theta) or not np.isfinite(target).all():
        raise TooFewSimulationsError(
            "the summaries of the observation, or of all simulations, are not finite; ABC has nothing to "
            "compare."
        )
    centre = np.median(summaries, axis=0)
    mad = np.median(np.abs(summaries - centre), axis=0)
    mad = np.where(mad > 0, mad, np.abs(summaries - centre).mean(axis=0))
    kept = mad > 0
    words = (
        [f"{int((~finite).sum())} simulations with summaries that are not finite"] if not finite.all() else []
    )
    words += [f"{int((~kept).sum())} summaries that do not vary"] if not kept.all() else []
    return theta, summaries[:, kept] / mad[kept], target[kept] / mad[kept], " and ".join(words)


def _linear(simulator: Simulator, theta: F, offsets: F, kernel: F) -> F:
    z, _ = simulator.prior.to_unconstrained(theta)
    root = np.sqrt(kernel)[:, None]
    regressors = np.concatenate([np.ones((len(z), 1)), offsets], axis=1)
    coefficients, *_ = np.linalg.lstsq(root * regressors, root * z, rcond=None)
    return simulator.prior.from_unconstrained(z - offsets @ coefficients[1:])


def _judge(summaries: F, tolerance: float, accepted: int, seed: int) -> Verdict:
    """Place the tolerance among those that simulated data sets would need at the same number of accepted
    simulations.
    """
    chosen = stream(seed, "abc pseudo-observations").choice(
        len(summaries), min(_PSEUDO_OBSERVATIONS, len(summaries)), replace=False
    )
    squares = np.square(summaries).sum(axis=1)
    usual = np.empty(len(chosen))
    for i, row in enumerate(chosen):
        others = squares - 2 * summaries @ summaries[row] + squares[row]
        others[row] = np.inf
        usual[i] = np.sqrt(
            max(
                np.partition(others, min(accepted, len(others) - 1) - 1)[
                    accepted - 1 if accepted < len(others) else -2
                ],
                0,
            )
        )
    smaller = float((usual < tolerance).mean())
    p = (1 + (usual >= tolerance).sum()) / (1 + len(usual))
    times = tolerance / max(float(usual.max()), 1e-300)
    text = (
        f"the tolerance {tolerance:.3g} is at quantile {smaller:.3f} of those that simulated data sets need"
    )
    if times > _FAR or p <= _DISTRUST_AT:
        return Verdict(
            "do not trust",
            f"{text}: no simulation comes near the observation. Check the data, the prior and the simulator.",
            smaller,
        )
    if accepted > _MOST_SHARE * len(summaries):
        near = "are" if accepted == len(summaries) else "may be nearer to"
        few = (
            f"{accepted:,} of {len(summaries):,} simulations were accepted, so these {near} draws from "
            f"the prior. Simulate more."
        )
        return Verdict("do not trust" if accepted == len(summaries) else "caution", few, smaller)
    if p <= _CAUTION_AT:
        return Verdict("caution", f"{text}: few simulations come near the observation.", smaller)
    return Verdict("trust", f"{text}.", smaller)
