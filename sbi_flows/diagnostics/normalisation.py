"""Is log q the density of the draws, and does it integrate to one?

Ranks cannot tell: any function of (theta, y) has uniform ranks if the draws are correct, also a density that
lacks a Jacobian. For every normalised density h, and q the density of the draws,

    E_q[ h / (h + q) ]  =  integral q h / (q + h)  =  E_h[ q / (h + q) ]

(Bennett 1976; Meng & Wong 1996). Both sides are means of numbers in [0, 1]. So the difference of the two
averages, one number per data set, has mean zero and a variance that can be estimated. h is the normal
distribution fitted to half of the draws; q is evaluated on others. The offset that makes the two sides equal
estimates by how many nats log q is too high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import expit

from sbi_flows.diagnostics.pairs import LogProb, Pairs
from sbi_flows.errors import SettingsError

_PROPOSED = 15
_MOST_NATS = 50.0


@dataclass(frozen=True)
class Normalisation:
    """t: the mean difference over its standard error, Student's with m - 1 degrees of freedom if log q is the
    density of the draws; excess: by how many nats log q is too high.
    """

    t: float
    degrees: int
    excess: float


def normalisation(pairs: Pairs, log_prob: LogProb, rng: np.random.Generator) -> Normalisation:
    """Test log q of `pairs`, whose draws must fill R^d, against the draws themselves. Raises `SettingsError`
    if `pairs` have no log_q.

    log_prob: as in `draw_pairs`.
    """
    if pairs.log_q is None:
        raise SettingsError("normalisation needs pairs with log_q: pass log_prob to draw_pairs.")
    m, n, d = pairs.draws.shape
    tried = min(pairs.log_q.shape[1] - 1, n // 2)
    mean = pairs.draws[:, tried:].mean(axis=1, keepdims=True)
    offsets = pairs.draws[:, tried:] - mean
    covariance = np.einsum("mni,mnj->mij", offsets, offsets) / (n - tried - 1)
    variance = np.einsum("mii->mi", covariance)
    covariance += 1e-6 * variance[:, :, None] * np.eye(d) + 1e-300 * np.eye(d)
    root = np.linalg.cholesky(covariance)
    proposed = mean + np.einsum("mij,mnj->mni", root, rng.standard_normal((m, _PROPOSED, d)))
    at_draws = pairs.log_q[:, 1 : 1 + tried] - _log_normal(pairs.draws[:, :tried] - mean, root)
    at_proposed = log_prob(proposed, pairs.y) - _log_normal(proposed - mean, root)

    def difference(excess: float) -> Float[np.ndarray, " m"]:
        return np.asarray(expit(at_proposed - excess).mean(axis=1) - expit(excess - at_draws).mean(axis=1))

    found = difference(0.0)
    error = found.std(ddof=1) / np.sqrt(m)
    t = float(found.mean() / error) if error > 0 else 0.0
    ends = difference(-_MOST_NATS).mean(), difference(_MOST_NATS).mean()
    excess = np.inf if ends[0] > 0 else -np.inf
    if ends[0] > 0 > ends[1]:
        excess = float(brentq(lambda nats: difference(nats).mean(), -_MOST_NATS, _MOST_NATS))
    return Normalisation(t, m - 1, excess)


def _log_normal(
    offsets: Float[np.ndarray, "m n d"], root: Float[np.ndarray, "m d d"]
) -> Float[np.ndarray, "m n"]:
    whitened = np.linalg.solve(root, offsets.transpose(0, 2, 1))
    log_det = np.log(np.einsum("mii->mi", root)).sum(axis=1)
    constant = 0.5 * offsets.shape[-1] * np.log(2 * np.pi)
    return np.asarray(-0.5 * np.square(whitened).sum(axis=1) - log_det[:, None] - constant)
