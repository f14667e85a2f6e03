"""The Ornstein-Uhlenbeck process observed with noise: its likelihood, and the control of its posterior.

dz = theta (mu - z) dt + sigma dW,    x_k = z(t_k) + tau e_k
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows import vae

F = NDArray[np.float64]


class Reverting(nn.Module):
    """theta (mu - z), with log theta and mu to be learned."""

    def __init__(self, theta: float, mu: float) -> None:
        super().__init__()
        self.log_theta = nn.Parameter(torch.tensor(float(np.log(theta))))
        self.mu = nn.Parameter(torch.tensor(mu))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.exp(self.log_theta) * (self.mu - z)


class Constant(nn.Module):
    """sigma, with its logarithm to be learned."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(float(np.log(sigma))))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.exp(self.log_sigma).expand_as(z)


class Direct(nn.Module):
    """x has mean z."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, None]


@dataclass(frozen=True)
class OU:
    """The process, from z ~ N(mean, sd^2) at the first time; None is the stationary distribution."""

    theta: float = 1.0
    mu: float = 0.0
    sigma: float = 0.8
    tau: float = 0.4
    mean: float | None = None
    sd: float | None = None

    @property
    def start(self) -> tuple[float, float]:
        stationary = self.sigma / np.sqrt(2 * self.theta)
        return (self.mu if self.mean is None else self.mean), (stationary if self.sd is None else self.sd)

    def sample(self, times: F, n: int, rng: np.random.Generator) -> F:
        """n series at times (T,) or (n, T), by exact steps, (n, T, 1)."""
        times = np.broadcast_to(times, (n, np.shape(times)[-1]))
        z = self.start[0] + self.start[1] * rng.standard_normal(n)
        found = [z]
        for gap in np.diff(times, axis=1).T:
            decay, variance = self.between(gap)
            z = self.mu + (z - self.mu) * decay + np.sqrt(variance) * rng.standard_normal(n)
            found.append(z)
        signal = np.stack(found, axis=1)
        return (signal + self.tau * rng.standard_normal(signal.shape))[..., None]

    def between(self, gap: F) -> tuple[F, F]:
        """The factor by which z - mu decays over a time, and the variance that it gains."""
        decay = np.exp(-self.theta * gap)
        return decay, self.sigma**2 / (2 * self.theta) * (1 - decay**2)

    def log_evidence(self, times: F, x: F) -> F:
        """log p(x) of each series (n, T, 1), NaN where missing, by the Kalman filter, in nats."""
        times = np.broadcast_to(times, x.shape[:2])
        mean, variance = np.full(len(x), self.start[0]), np.full(len(x), self.start[1] ** 2)
        total = np.zeros(len(x))
        for k in range(x.shape[1]):
            if k:
                decay, more = self.between(times[:, k] - times[:, k - 1])
                mean, variance = self.mu + (mean - self.mu) * decay, variance * decay**2 + more
            seen = ~np.isnan(x[:, k, 0])
            away, spread = np.where(seen, x[:, k, 0] - mean, 0.0), variance + self.tau**2
            total += np.where(seen, -0.5 * (away**2 / spread + np.log(2 * np.pi * spread)), 0.0)
            gain = np.where(seen, variance / spread, 0.0)
            mean, variance = mean + gain * away, variance * (1 - gain)
        return total

    def information(self, times: F, x: F, at: F) -> tuple[F, F]:
        """a and b of log p(x after t | z(t)) = a z - b z^2 / 2 + const at each t of `at` (S,), (n, S) each;
        times (T,), nothing missing.
        """
        found_a, found_b = np.zeros((len(x), len(at))), np.zeros((len(x), len(at)))
        for j, t in enumerate(at):
            a, b = np.zeros(len(x)), 0.0
            later = [k for k in range(len(times)) if times[k] > t + 1e-9]
            for i in reversed(range(len(later))):
                a, b = a + x[:, later[i], 0] / self.tau**2, b + 1 / self.tau**2
                decay, variance = self.between(times[later[i]] - (times[later[i - 1]] if i else t))
                a, b = a / (1 + b * variance), b / (1 + b * variance)
                a, b = decay * (a - b * self.mu * (1 - decay)), b * decay**2
            found_a[:, j], found_b[:, j] = a, b
        return found_a, found_b

    def oracle_bound(self, times: F, x: F, dt: float, paths: int, rng: np.random.Generator) -> F:
        """The bound with the exact posterior of z_0 and the exact control u = sigma (a - b z), constant over
        each Euler step.
        """
        grid = np.concatenate(
            [np.linspace(s, e, round((e - s) / dt), endpoint=False) for s, e in pairwise(times)]
        )
        a, b = self.information(times, x, grid)
        mean, sd = self.start
        precision = b[:, 0] + 1 / sd**2 + 1 / self.tau**2
        centre = (a[:, 0] + mean / sd**2 + x[:, 0, 0] / self.tau**2) / precision
        z = centre[:, None] + rng.standard_normal((len(x), paths)) / np.sqrt(precision)[:, None]
        kl = 0.5 * (1 / (precision * sd**2) + (centre - mean) ** 2 / sd**2 - 1 + np.log(precision * sd**2))
        total = -kl[:, None] + np.zeros_like(z)
        for j, t in enumerate([*grid, times[-1]]):
            near = np.flatnonzero(np.abs(times - t) < 1e-9)
            if len(near):
                total += (
                    -0.5 * ((x[:, near[0]] - z) / self.tau) ** 2 - np.log(self.tau) - 0.5 * np.log(2 * np.pi)
                )
            if j < len(grid):
                u = self.sigma * (a[:, j : j + 1] - b[:, j : j + 1] * z)
                total -= 0.5 * u**2 * dt
                z = (
                    z
                    + (self.theta * (self.mu - z) + self.sigma * u) * dt
                    + self.sigma * np.sqrt(dt) * rng.standard_normal(z.shape)
                )
        return np.asarray(total.mean(axis=1))

    def model(self, dt: float, seed: int = 0, **settings: object) -> vae.LatentSDE:
        """A latent SDE with this prior and likelihood."""
        mean, sd = self.start
        return vae.LatentSDE(
            features=1,
            latent=1,
            likelihood=vae.Gaussian(sd=self.tau),
            seed=seed,
            prior=vae.PriorSDE(
                drift=Reverting(self.theta, self.mu), diffusion=Constant(self.sigma), mean=mean, sd=sd
            ),
            decoder=Direct(),
            settings=vae.SDESettings(dt=dt, **settings),  # type: ignore[arg-type]
        )
