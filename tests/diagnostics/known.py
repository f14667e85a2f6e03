"""Posteriors in closed form and their planted faults, on which the tests of a posterior are tested.

A `Known` problem draws (theta, y) and knows the exact posterior. A map g, increasing in each coordinate,
takes theta to z = g(theta). A mutant is a change in z (of dispersion, or a shift) with its own density.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import beta, norm

F = np.ndarray
Tested = tuple[Callable[..., F], Callable[..., F]]
D = 2


@dataclass(frozen=True)
class Known:
    """One problem.

    joint: (m, rng) -> theta (m, 2), y.
    sample: (y, n, rng) -> (m, n, 2).
    log_prob: (theta (m, n, 2), y) -> (m, n); log_prior: theta -> (m, n).
    to_line, from_line: theta to z and back; log_slope: log dz/dtheta, summed over coordinates.
    moments: y -> centre and sd of z, (m, 2) each.
    """

    joint: Callable[[int, np.random.Generator], tuple[F, F]]
    sample: Callable[[F, int, np.random.Generator], F]
    log_prob: Callable[[F, F], F]
    log_prior: Callable[[F], F]
    to_line: Callable[[F], F]
    from_line: Callable[[F], F]
    log_slope: Callable[[F], F]
    moments: Callable[[F], tuple[F, F]]
    lost_constant: float = 0.0
    without_jacobian: Callable[[F, int, np.random.Generator], F] | None = None
    of_width: Callable[[float], Tested] | None = None


def same(theta: F) -> F:
    return theta


def flat(theta: F) -> F:
    return np.zeros(theta.shape[:-1])


def gaussian() -> Known:
    """theta ~ N(0, I), y = theta_1 + 0.5 theta_2 and theta_2 - 0.3 theta_1, each with noise of sd 0.7."""
    design = np.array([[1.0, 0.5], [-0.3, 1.0]])
    covariance = np.linalg.inv(np.eye(D) + design.T @ design / 0.49)
    root = np.linalg.cholesky(covariance)
    slope = covariance @ design.T / 0.49
    log_det = float(np.log(np.diag(root)).sum())

    def joint(m: int, rng: np.random.Generator) -> tuple[F, F]:
        theta = rng.standard_normal((m, D))
        return theta, theta @ design.T + 0.7 * rng.standard_normal((m, D))

    def log_prob(theta: F, y: F) -> F:
        white = np.linalg.solve(root, (theta - (y @ slope.T)[:, None]).reshape(-1, D).T).T.reshape(
            theta.shape
        )
        return norm.logpdf(white).sum(axis=-1) - log_det

    return Known(
        joint,
        lambda y, n, rng: (y @ slope.T)[:, None] + rng.standard_normal((len(y), n, D)) @ root.T,
        log_prob,
        lambda theta: norm.logpdf(theta).sum(axis=-1),
        *(same, same, flat),
        lambda y: (y @ slope.T, np.broadcast_to(np.sqrt(np.diag(covariance)), (len(y), D))),
        lost_constant=log_det,
    )


def logit_slope(theta: F) -> F:
    theta = np.clip(theta, 1e-12, 1 - 1e-12)
    return -(np.log(theta) + np.log1p(-theta)).sum(axis=-1)


def inside(theta: F) -> F:
    """0 in the unit square, -inf outside: what a density adds to its logarithm."""
    return np.where(((theta > 0) & (theta < 1)).all(axis=-1), 0.0, -np.inf)


def beta_binomial() -> Known:
    """p_1 ~ Beta(2, 5), p_2 ~ Beta(5, 2), y_j ~ Bin(20, p_j)."""
    a, b, trials = np.array([2.0, 5.0]), np.array([5.0, 2.0]), 20

    def joint(m: int, rng: np.random.Generator) -> tuple[F, F]:
        theta = rng.beta(a, b, (m, D))
        return theta, rng.binomial(trials, theta).astype(float)

    def draw(y: F, n: int, rng: np.random.Generator, less: float = 0.0) -> F:
        return np.clip(
            rng.beta((a + y - less)[:, None], (b + trials - y - less)[:, None], (len(y), n, D)),
            1e-12,
            1 - 1e-12,
        )

    def moments(y: F) -> tuple[F, F]:
        from scipy.special import polygamma, psi

        return psi(a + y) - psi(b + trials - y), np.sqrt(polygamma(1, a + y) + polygamma(1, b + trials - y))

    return Known(
        joint,
        draw,
        lambda theta, y: beta.logpdf(theta, (a + y)[:, None], (b + trials - y)[:, None]).sum(axis=-1),
        lambda theta: beta.logpdf(theta, a, b).sum(axis=-1),
        *(logit, expit, logit_slope, moments),
        without_jacobian=lambda y, n, rng: draw(y, n, rng, less=1.0),
    )


def bounded_uniform() -> Known:
    """theta ~ U(0, 1)^2, y_j = theta_j + 0.25 e: truncated normals, most of which lean on an edge."""
    noise = 0.25

    def joint(m: int, rng: np.random.Generator) -> tuple[F, F]:
        theta = rng.random((m, D))
        return theta, theta + noise * rng.standard_normal((m, D))

    def draw(y: F, n: int, rng: np.random.Generator) -> F:
        low, high = ndtr(-y / noise)[:, None], ndtr((1 - y) / noise)[:, None]
        theta = y[:, None] + noise * ndtri(low + (high - low) * rng.random((len(y), n, D)))
        return np.clip(theta, 1e-12, 1 - 1e-12)

    def log_prob(theta: F, y: F) -> F:
        mass = np.log(ndtr((1 - y) / noise) - ndtr(-y / noise))[:, None]
        return (norm.logpdf(theta, y[:, None], noise) - mass).sum(axis=-1) + inside(theta)

    def moments(y: F) -> tuple[F, F]:
        z = logit(draw(y, 400, np.random.default_rng(0)))
        return z.mean(axis=1), z.std(axis=1)

    return Known(joint, draw, log_prob, inside, logit, expit, logit_slope, moments)


def bimodal() -> Known:
    """theta ~ N(0, I), y = s theta + 0.4 e with a hidden sign s = +-1 for both: two modes of equal weight, at
    +-c(y).
    """
    variance = 1 / (1 + 1 / 0.16)
    sd = np.sqrt(variance)

    def joint(m: int, rng: np.random.Generator) -> tuple[F, F]:
        theta = rng.standard_normal((m, D))
        return theta, rng.choice([-1.0, 1.0], (m, 1)) * theta + 0.4 * rng.standard_normal((m, D))

    def of_width(width: float) -> Tested:
        def log_prob(theta: F, y: F) -> F:
            mode = (variance / 0.16 * y)[:, None]
            both = [norm.logpdf(theta, sign * mode, width * sd).sum(axis=-1) for sign in (-1, 1)]
            return np.logaddexp(*both) - np.log(2)

        def draw(y: F, n: int, rng: np.random.Generator) -> F:
            signs = rng.choice([-1.0, 1.0], (len(y), n, 1))
            return signs * (variance / 0.16 * y)[:, None] + width * sd * rng.standard_normal((len(y), n, D))

        return draw, log_prob

    return Known(
        joint,
        *of_width(1.0),
        lambda theta: norm.logpdf(theta).sum(axis=-1),
        *(same, same, flat),
        lambda y: (np.zeros((len(y), D)), np.sqrt(variance + np.square(variance / 0.16 * y))),
        lost_constant=2 * float(np.log(sd)),
        of_width=of_width,
    )


PROBLEMS = {
    "conjugate Gaussian": gaussian,
    "Beta-binomial": beta_binomial,
    "bounded uniform": bounded_uniform,
    "bimodal": bimodal,
}


def stretched(known: Known, width: float, shift: float = 0.0) -> Tested:
    """z -> c + shift sd + width (z - c) about the centre c; where there are modes, width is that of each."""
    if known.of_width is not None and width != 1:
        return known.of_width(width)

    def sampler(y: F, n: int, rng: np.random.Generator) -> F:
        middle, sd = (moment[:, None] for moment in known.moments(y))
        return known.from_line(
            middle + shift * sd + width * (known.to_line(known.sample(y, n, rng)) - middle)
        )

    def log_prob(theta: F, y: F) -> F:
        middle, sd = (moment[:, None] for moment in known.moments(y))
        before = known.from_line(middle + (known.to_line(theta) - middle - shift * sd) / width)
        with np.errstate(invalid="ignore"):
            found = (
                known.log_prob(before, y)
                - known.log_slope(before)
                + known.log_slope(theta)
                - D * np.log(width)
            )
        return np.where(np.isnan(found), -np.inf, found)

    return sampler, log_prob


def swapped(known: Known) -> Tested:
    return (
        lambda y, n, rng: known.sample(y, n, rng)[..., ::-1],
        lambda theta, y: known.log_prob(theta[..., ::-1], y),
    )


def prior_only(known: Known) -> Tested:
    def sampler(y: F, n: int, rng: np.random.Generator) -> F:
        return known.joint(len(y) * n, rng)[0].reshape(len(y), n, D)

    return sampler, lambda theta, y: known.log_prior(theta)


def stale(known: Known) -> Tested:
    return (
        lambda y, n, rng: known.sample(np.roll(y, 1, axis=0), n, rng),
        lambda theta, y: known.log_prob(theta, np.roll(y, 1, axis=0)),
    )


def density_without_jacobian(known: Known) -> Tested:
    """The draws are correct; log q lacks log |dz/dtheta| or, where that is zero, the constant of its
    whitening.
    """
    return (
        known.sample,
        lambda theta, y: known.log_prob(theta, y) - known.log_slope(theta) + known.lost_constant,
    )


def draws_without_jacobian(known: Known) -> Tested | None:
    """The density is correct; the draws are of q dz/dtheta, as from a sampler in z that omits the
    Jacobian.
    """
    return None if known.without_jacobian is None else (known.without_jacobian, known.log_prob)


MUTANTS: dict[str, Callable[[Known], Tested | None]] = {
    "width x 0.8": lambda known: stretched(known, 0.8),
    "width x 1.25": lambda known: stretched(known, 1.25),
    "shift 0.3 sd": lambda known: stretched(known, 1.0, 0.3),
    "swapped parameters": swapped,
    "prior as posterior": prior_only,
    "stale y": stale,
    "density drops Jacobian": density_without_jacobian,
    "draws drop Jacobian": draws_without_jacobian,
}


def exact(known: Known) -> Tested:
    return known.sample, known.log_prob
