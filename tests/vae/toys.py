"""Latent variable models with known evidence: linear-Gaussian in closed form, others by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor, nn

import sbi_flows as sf
from sbi_flows import vae
from sbi_flows.rng import stream

F = NDArray[np.float64]


class Curve(nn.Module):
    """A decoder without weights: the mean of x as a function of z (rows, 2)."""

    def __init__(self, mean: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, z: Tensor) -> Tensor:
        return self.mean(z)[:, None]


@dataclass(frozen=True)
class Toy:
    """A frozen decoder with a Gaussian likelihood of standard deviation sd, and log p(x) of rows x."""

    decoder: nn.Module
    latent: int
    m: int
    sd: float
    log_evidence: Callable[[F], F]

    def model(self, encoder: str, seed: int = 0, settings: vae.VAESettings | None = None) -> vae.VAE:
        return vae.VAE(
            event_shape=self.m,
            latent=self.latent,
            likelihood=vae.Gaussian(sd=self.sd),
            encoder=encoder,
            seed=seed,
            decoder=self.decoder,
            settings=settings or vae.VAESettings(width=64, summary_features=32),
        )

    def gaps(self, encoder: str, *, steps: int, seed: int = 0) -> tuple[float, float]:
        """Mean and standard error of log p(x) - bound over 4000 events, after `steps` steps of 128 events."""
        model = self.model(encoder, seed)
        x = model.sample(12_800, seed=seed + 1)
        settings = sf.TrainSettings(batch_size=128, learning_rate=4e-3, patience=steps, averaging=0.99)
        model.fit(
            x,
            model.sample(1000, seed=seed + 2),
            epochs=steps // 100,
            frozen="decoder",
            train_settings=settings,
        )
        x = model.sample(4000, seed=seed + 3)
        gap = self.log_evidence(x) - model.elbo(x, 100).bound
        return float(gap.mean()), float(gap.std() / np.sqrt(len(gap)))


def linear_gaussian() -> tuple[Toy, float]:
    """z in R^4, x = A z + b + 0.5 e in R^6, and the least gap of a diagonal Gaussian, (sum_i log P_ii - log
    det P) / 2 with P = I + 4 A'A.
    """
    rng = stream(7, "linear-Gaussian toy")
    a, sd = rng.standard_normal((6, 4)) + 4 * rng.standard_normal((6, 1)), 0.5
    b = rng.standard_normal(6)
    decoder = nn.utils.skip_init(nn.Linear, 4, 6)
    with torch.no_grad():
        decoder.weight.copy_(torch.from_numpy(a))
        decoder.bias.copy_(torch.from_numpy(b))
    covariance = a @ a.T + sd**2 * np.eye(6)
    factor = np.linalg.cholesky(covariance)

    def log_evidence(x: F) -> F:
        standard = np.linalg.solve(factor, (x - decoder.bias.detach().double().numpy()).T)
        return (
            -0.5 * (np.square(standard).sum(axis=0) + 6 * np.log(2 * np.pi)) - np.log(np.diag(factor)).sum()
        )

    precision = np.eye(4) + a.T @ a / sd**2
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision).logabsdet)
    return Toy(decoder, 4, 6, sd, log_evidence), float(gap)


def banana() -> Toy:
    """x = z_2 - 0.8 z_1^2 + 0.3 e: the posterior is a parabola."""
    return _by_quadrature(lambda z: z[:, 1] - 0.8 * z[:, 0] ** 2)


def product() -> Toy:
    """x = z_1 z_2 + 0.3 e: the posterior has two modes."""
    return _by_quadrature(lambda z: z[:, 0] * z[:, 1])


def least_gap_of_product(*, full: bool, sd: float = 0.3) -> float:
    """For `product`: the mean of log p(x) less the best bound of any Gaussian q(z | x), found per x. No
    encoder of that kind has a smaller gap. full: whether q may be correlated.

    With q = N(m, S), E (x - z_1 z_2)^2 = x^2 - 2 x (m_1 m_2 + S_12) + (m_1^2 + S_11)(m_2^2 + S_22) + 2 S_12^2
        + 4 m_1 m_2 S_12.
    """

    def minus_bound(point: F, x: float) -> float:
        m, (a, b), c = point[:2], np.exp(point[2:4]), point[4] if full else 0.0
        s = np.array([[a * a, a * c], [a * c, b * b + c * c]])
        both, cross = m[0] * m[1], s[0, 1]
        squares = x * x - 2 * x * (both + cross) + 2 * cross**2 + 4 * both * cross
        squares += (m[0] ** 2 + s[0, 0]) * (m[1] ** 2 + s[1, 1])
        kl = 0.5 * (m @ m + np.trace(s) - 2) - point[2] - point[3]
        return float(0.5 * squares / sd**2 + np.log(sd) + 0.5 * np.log(2 * np.pi) + kl)

    box, grid = [(-4.0, 4.0)] * 2 + [(-4.0, 1.0)] * 2 + [(-4.0, 4.0)], np.linspace(-9, 9, 121)
    toy, best = product(), []
    for x in grid:
        root = np.sqrt(abs(x) + 0.1)
        starts = [[root, np.copysign(root, x), -1, -1, 0], [0, 0, -1, 0, 0], [0, 0, 0, -1, 0]]
        best.append(
            -min(
                minimize(minus_bound, start, args=(x,), method="L-BFGS-B", bounds=box).fun for start in starts
            )
        )
    x = toy.model("diagonal").sample(40_000, seed=5)[:, 0]
    return float(np.interp(x, grid, toy.log_evidence(grid[:, None]) - np.array(best)).mean())


def _by_quadrature(mean: Callable[[Tensor], Tensor], sd: float = 0.3) -> Toy:
    axis = torch.linspace(-6, 6, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    means = mean(grid).numpy()
    log_prior = (
        -0.5 * grid.square().sum(dim=1).numpy() - np.log(2 * np.pi) + 2 * np.log(float(axis[1] - axis[0]))
    )

    def log_evidence(x: F) -> F:
        constant = -np.log(sd) - 0.5 * np.log(2 * np.pi)
        points = np.linspace(x.min(), x.max(), 400)
        found = [logsumexp(log_prior - 0.5 * np.square((point - means) / sd)) for point in points]
        return np.asarray(CubicSpline(points, found)(x[:, 0]) + constant)

    return Toy(Curve(mean), 2, 1, sd, log_evidence)
