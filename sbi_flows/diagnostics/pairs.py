"""The one set of draws that all judges share.

    theta_i ~ p(theta),   y_i ~ p(y | theta_i),   theta_i1, ..., theta_iL ~ q(theta | y_i),        i = 1, ...,
    m

For the right posterior theta_i, theta_i1, ..., theta_iL are exchangeable given y_i: every judge is a
consequence of that sentence. A scalar t(theta, y), whatever it is, therefore has a randomised rank of the
truth among the draws,

    u_i = (#{t(theta_il, y_i) < t(theta_i, y_i)} + U_i (1 + #ties)) / (L + 1)

that is exactly uniform on [0, 1] and independent of y_i (Talts et al. 2018, 1804.06788; Modrak et al. 2023,
2211.02383).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray

from sbi_flows.errors import ShapeError

Sampler = Callable[[NDArray[np.float64], int, np.random.Generator], NDArray[np.float64]]
LogProb = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
Progress = Callable[[int, int, str], None]

_EVENTS_AT_ONCE = 100


@dataclass(frozen=True)
class Pairs:
    """theta (m, d), y (m, *event), draws (m, L, d); log_q, log_likelihood (nats): of the truth, then of the
    first draws.

    log_likelihood may be of the first rows alone.
    """

    theta: Float[np.ndarray, "m d"]
    y: Shaped[np.ndarray, "m *event"]
    draws: Float[np.ndarray, "m n d"]
    names: tuple[str, ...]
    log_q: Float[np.ndarray, "m some_and_one"] | None = None
    log_likelihood: Float[np.ndarray, "few few_and_one"] | None = None

    def __len__(self) -> int:
        return len(self.theta)


def draw_pairs(
    sampler: Sampler,
    theta: Float[np.ndarray, "m d"],
    y: Shaped[np.ndarray, "m *event"],
    *,
    names: tuple[str, ...],
    rng: np.random.Generator,
    draws: int = 100,
    densities: int = 50,
    log_prob: LogProb | None = None,
    log_likelihood: LogProb | None = None,
    progress: Progress | None = None,
) -> Pairs:
    """Ask the posterior of every y for `draws` draws, once, and for the density of the first `densities` of
    them.

    sampler(y (m, *event), n, rng) -> (m, n, d); log_prob and log_likelihood (theta (m, n, d), y) -> (m, n).
    Raises `ShapeError`.
    """
    m, d = theta.shape
    values = np.empty((m, draws, d))
    functions = [function for function in (log_prob, log_likelihood) if function is not None]
    densities = min(densities, draws)
    found = [np.empty((m, densities + 1)) for _ in functions]
    for start in range(0, m, _EVENTS_AT_ONCE):
        rows = slice(start, min(start + _EVENTS_AT_ONCE, m))
        part = sampler(y[rows], draws, rng)
        if part.shape != (rows.stop - start, draws, d):
            raise ShapeError(
                f"the sampler returned shape {part.shape}; wanted ({rows.stop - start}, {draws}, {d})."
            )
        values[rows] = part
        with_truth = np.concatenate([theta[rows, None], part[:, :densities]], axis=1)
        for function, out in zip(functions, found, strict=True):
            out[rows] = function(with_truth, y[rows])
        if progress is not None:
            progress(rows.stop, m, "drawing")
    log_q = None if log_prob is None else found[0]
    return Pairs(theta, y, values, names, log_q, None if log_likelihood is None else found[-1])


def likelihoods(
    pairs: Pairs,
    log_likelihood: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    *,
    rows: int,
    draws: int,
    progress: Progress | None = None,
) -> Float[np.ndarray, "few few_and_one"]:
    """log_likelihood(theta (1 + draws, d), y (*event)) of the truth and the first draws of the first rows,
    one data set after another.

    An estimate will do: its noise, independent of which theta is the truth, leaves the ranks uniform. Raises
    `ShapeError`.
    """
    found = np.empty((min(rows, len(pairs)), draws + 1))
    for i, out in enumerate(found):
        values = np.asarray(
            log_likelihood(np.concatenate([pairs.theta[i : i + 1], pairs.draws[i, :draws]]), pairs.y[i])
        )
        if values.shape != out.shape:
            raise ShapeError(
                f"log_likelihood returned shape {values.shape} for {len(out)} rows of theta; wanted "
                f"({len(out)},)."
            )
        out[:] = values
        if progress is not None and (i % 20 == 19 or i + 1 == len(found)):
            progress(i + 1, len(found), "likelihoods")
    return found


def ranks(
    sampled: Float[np.ndarray, "m n"], truth: Float[np.ndarray, " m"], rng: np.random.Generator
) -> Float[np.ndarray, " m"]:
    """The randomised rank of each truth among its draws, in (0, 1); not a number counts as the lowest
    value.
    """
    sampled, truth = (
        np.nan_to_num(sampled, nan=-np.inf, posinf=np.inf, neginf=-np.inf),
        np.nan_to_num(truth, nan=-np.inf, posinf=np.inf),
    )
    below = (sampled < truth[:, None]).sum(axis=1)
    ties = (sampled == truth[:, None]).sum(axis=1)
    return np.asarray((below + rng.random(len(truth)) * (1 + ties)) / (sampled.shape[1] + 1))
