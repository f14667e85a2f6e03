"""Bounds on log p(x) and its estimate by importance sampling, per row, in nats.

    bound       E_q[log p(x | z)] - KL(q(z | x) || p(z))  <=  log p(x)
    evidence    log (1/n) sum_i w_i,   w_i = p(x, z_i) / q(z_i | x),   z_i ~ q

The expectation of the evidence estimate is a bound too, which depends on q and rises to log p(x) with n. Its
standard error is sd(w) / (mean(w) sqrt(n)), which can be trusted where k-hat is below 0.7. Burda et al.
(2016), 1509.00519.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from sbi_flows.arrays import F
from sbi_flows.diagnostics.importance import k_hat
from sbi_flows.vae.network import Terms
from sbi_flows.vae.objective import kl_parts

_PAIRS_AT_ONCE, _NUMBERS_AT_ONCE = 20_000, 10_000_000


class Bounded(Protocol):
    """A module that gives the terms of the bound from rows of x and noise (rows, n, noise_width)."""

    @property
    def noise_width(self) -> int: ...

    def __call__(self, x: Tensor, noise: Tensor, /) -> Terms: ...


@dataclass(frozen=True)
class Elbo:
    """The terms of the bound per row, (rows,): reconstruction E_q[log p(x | z)], kl = KL(q(z | x) || p(z)).

    kl_parts: the KL in parts, (rows, parts): one per dimension of a diagonal Gaussian, else one; of a latent
    SDE, one for z at the first time and one for the path from there.
    """

    reconstruction: F
    kl: F
    kl_parts: F

    @property
    def bound(self) -> F:
        """reconstruction - kl <= log p(x)."""
        return self.reconstruction - self.kl

    @property
    def terms(self) -> dict[str, F]:
        """Reconstruction and KL by name."""
        return {"reconstruction": self.reconstruction, "kl": self.kl}


@dataclass(frozen=True)
class Evidence:
    """log p(x) per row with its standard error and k-hat, (rows,), from n draws."""

    log_evidence: F
    standard_error: F
    k_hat: F
    n: int


def elbo(module: Bounded, x: Tensor, n: int, rng: np.random.Generator) -> Elbo:
    """The terms from n draws per row."""
    likelihood, kl = [], []
    for part, noise in chunks(module, x, n, rng):
        with torch.no_grad():
            terms = module(part, noise)
        likelihood.append(terms.log_likelihood.mean(dim=1))
        kl.append(kl_parts(terms))
    parts = torch.cat(kl).numpy()
    return Elbo(torch.cat(likelihood).numpy(), parts.sum(axis=1), parts)


def log_weights(module: Bounded, x: Tensor, n: int, rng: np.random.Generator) -> F:
    """log w of n draws per row, (rows, n)."""
    found = []
    for part, noise in chunks(module, x, n, rng):
        with torch.no_grad():
            terms = module(part, noise)
        found.append(terms.log_likelihood + terms.log_prior - terms.log_q)
    return torch.cat(found).numpy()


def evidence(log_weights: F) -> Evidence:
    """The estimate from log weights (rows, n)."""
    n = log_weights.shape[1]
    log_mean = logsumexp(log_weights, axis=1) - np.log(n)
    relative = np.exp(log_weights - log_mean[:, None])
    error = relative.std(axis=1, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(log_weights), np.nan)
    return Evidence(log_mean, error, k_hat(log_weights), n)


def chunks(module: Bounded, x: Tensor, n: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of x in chunks that fit in memory, each with its noise (rows, n, noise_width)."""
    rows = max(1, min(_PAIRS_AT_ONCE, _NUMBERS_AT_ONCE // module.noise_width) // n)
    for i in range(0, len(x), rows):
        part = x[i : i + rows]
        yield part, torch.from_numpy(rng.standard_normal((len(part), n, module.noise_width)))
