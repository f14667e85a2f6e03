"""The one set of draws that all tests share.

    theta_i ~ p(theta),   y_i ~ p(y | theta_i),   theta_i1, ..., theta_iL ~ q(theta | y_i),   i = 1, ..., m

If q is the posterior, then theta_i, theta_i1, ..., theta_iL are exchangeable given y_i. Every test follows
from that: any scalar t(theta, y) has a randomised rank of the truth among the draws,

    u_i = (#{t(theta_il, y_i) < t(theta_i, y_i)} + U_i (1 + #ties)) / (L + 1),   U_i ~ U(0, 1),

that is exactly uniform on [0, 1] and independent of y_i (Talts et al. 2018, 1804.06788; Modrak et al. 2023,
2211.02383).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from sbi_flows.arrays import F
from sbi_flows.errors import ShapeError

Sampler = Callable[[F, int, np.random.Generator], F]
LogProb = Callable[[F, F], F]
Progress = Callable[[int, int, str], None]

_DRAWS, _DENSITIES, _EVENTS_AT_ONCE = 100, 50, 100


@dataclass(frozen=True)
class Pairs:
    """theta (m, d), y (m, *event) and draws (m, L, d), with log densities in nats: of the truth, then of the
    first draws. log_likelihood may be of the first rows alone.
    """

    theta: Float[np.ndarray, "m d"]
    y: Shaped[np.ndarray, "m *event"]
    draws: Float[np.ndarray, "m n d"]
    names: tuple[str, ...]
    log_q: Float[np.ndarray, "m some_and_one"] | None = None
    log_likelihood: Float[np.ndarray, "few few_and_one"] | None = None


def draw_pairs(
    sampler: Sampler,
    theta: Float[np.ndarray, "m d"],
    y: Shaped[np.ndarray, "m *event"],
    *,
    names: tuple[str, ...],
    rng: np.random.Generator,
    log_prob: LogProb | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """Take 100 draws from the posterior of each y and, with log_prob, the density at the truth and at the
    first 50 of them. Raises `ShapeError`.

    sampler: takes y (m, *event), n and rng; returns draws (m, n, d).
    names: of the d parameters.
    log_prob: takes theta (m, n, d) and y (m, *event); returns (m, n), in nats.
    progress: called with pairs done, pairs in all, and "drawing".
    """
    m, d = theta.shape
    draws = np.empty((m, _DRAWS, d))
    log_q = None if log_prob is None else np.empty((m, _DENSITIES + 1))
    for start in range(0, m, _EVENTS_AT_ONCE):
        rows = slice(start, min(start + _EVENTS_AT_ONCE, m))
        part, expected = sampler(y[rows], _DRAWS, rng), (rows.stop - start, _DRAWS, d)
        if part.shape != expected:
            raise ShapeError(f"the sampler returned shape {part.shape}; expected {expected}.")
        draws[rows] = part
        if log_prob is not None and log_q is not None:
            with_truth = np.concatenate([theta[rows, None], part[:, :_DENSITIES]], axis=1)
            log_q[rows] = log_prob(with_truth, y[rows])
        if progress is not None:
            progress(rows.stop, m, "drawing")
    return Pairs(theta, y, draws, names, log_q)


def likelihoods(
    pairs: Pairs, log_likelihood: LogProb, *, rows: int, draws: int, progress: Progress | None = None
) -> Float[np.ndarray, "few few_and_one"]:
    """The log-likelihood of the truth and of the first draws, for the first rows, one row at a time. Raises
    `ShapeError`.

    log_likelihood: takes theta (1 + draws, d) and one y (*event); returns (1 + draws,). An estimate will do:
        its noise does not depend on which theta is the truth, so the ranks stay uniform.
    """
    found = np.empty((min(rows, len(pairs.theta)), draws + 1))
    for i, row in enumerate(found):
        with_truth = np.concatenate([pairs.theta[i : i + 1], pairs.draws[i, :draws]])
        values = np.asarray(log_likelihood(with_truth, pairs.y[i]))
        if values.shape != row.shape:
            raise ShapeError(
                f"log_likelihood returned shape {values.shape} for {len(row)} values of theta; expected "
                f"({len(row)},)."
            )
        row[:] = values
        if progress is not None and (i % 20 == 19 or i + 1 == len(found)):
            progress(i + 1, len(found), "likelihoods")
    return found


def ranks(
    sampled: Float[np.ndarray, "m n"], truth: Float[np.ndarray, " m"], rng: np.random.Generator
) -> Float[np.ndarray, " m"]:
    """The randomised rank of each truth among its draws, in (0, 1). NaN counts as the lowest value."""
    sampled = np.nan_to_num(sampled, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    truth = np.nan_to_num(truth, nan=-np.inf, posinf=np.inf)
    below = (sampled < truth[:, None]).sum(axis=1)
    ties = (sampled == truth[:, None]).sum(axis=1)
    return np.asarray((below + rng.random(len(truth)) * (1 + ties)) / (sampled.shape[1] + 1))
