"""A member of an ensemble that is not trained: the posterior of a linear Gaussian model, in closed form.

    q(u | y) = N(u; b + B x, S),   x = (scaled y, scaled declared summaries) as one row of numbers
    B_j = argmin sum_i (u_ij - b_j - x_i B_j)^2 + lambda_j |B_j|^2,   lambda_j by generalised cross-validation
    S     the covariance of the residuals, each variance as cross-validation estimates it

Where simulations are few and the posterior is close to linear and Gaussian, this has the least variance of
all members; elsewhere the mixture weights leave it out. Hoerl & Kennard (1970); Golub, Heath & Wahba (1979).
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeGuard, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sbi_flows.flows.conditional import LOG_2PI, ConditionalFlow
from sbi_flows.flows.layers import ConditionalAffine
from sbi_flows.flows.sampling import build_sampling_flow
from sbi_flows.flows.triangular import Triangular
from sbi_flows.npe.network import PosteriorEstimator
from sbi_flows.training.history import History
from sbi_flows.training.rows import Rows

LINEAR: Final = "linear_gaussian"
OPERATIONS = 1e11  # what the closed form may take where nobody asked for it: seconds
_PENALTIES = torch.logspace(-8, 3, 45, dtype=torch.float64)
_LEAST_FREEDOM = 0.05  # the share of rows that is left to judge a penalty by
_LEAST_SHARE, _LEAST_VARIANCE, _JITTER = 1e-12, 1e-12, 1e-9


class LinearMean(nn.Module):
    """b + B x, of the columns that are `seen` (m,), 1 or 0. (rows, *event), (rows, k) -> (rows, d)."""

    seen: Tensor

    def __init__(self, inputs: int, d: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, d)
        self.register_buffer("seen", torch.ones(inputs))

    def forward(self, *data: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows d"]:
        out: Tensor = self.linear(_columns(data) * self.seen)
        return out


def linear_member(inputs: int, d: int, seen: Bool[np.ndarray, " m"] | None = None) -> PosteriorEstimator:
    """The member, for u in R^d and `inputs` numbers, before it is solved. seen: the columns to be used; None
    for all.
    """
    mean = LinearMean(inputs, d)
    if seen is not None:
        mean.seen.copy_(torch.from_numpy(seen))
    return PosteriorEstimator(mean, build_sampling_flow("full_rank", d, d))


def is_linear(member: nn.Module) -> TypeGuard[PosteriorEstimator]:
    """Whether a member is of this kind."""
    return isinstance(member, PosteriorEstimator) and isinstance(member.summary, LinearMean)


class _Moments(NamedTuple):
    """Of training rows: how many, means of x and u, and sums of products of deviations from them."""

    n: int
    mean_x: Float[Tensor, " m"]
    mean_u: Float[Tensor, " d"]
    xx: Float[Tensor, "m m"]
    xu: Float[Tensor, "m d"]
    uu: Float[Tensor, "d d"]


@torch.no_grad()
def solve(member: PosteriorEstimator, rows: Rows) -> History:
    """Give a member of this kind the B, b and S of the training rows; return its losses, as of one epoch."""
    mean = cast(LinearMean, member.summary)
    moments = _moments(rows, mean.seen)
    slopes, variances = _ridge(moments)
    residual = (
        moments.uu - slopes.T @ moments.xu - moments.xu.T @ slopes + slopes.T @ moments.xx @ slopes
    ) / moments.n
    inflated = (variances / residual.diagonal().clamp(min=_LEAST_VARIANCE)).clamp(min=1.0).sqrt()
    covariance = residual * inflated * inflated[:, None]
    covariance.diagonal().mul_(1 + _JITTER).clamp_(min=_LEAST_VARIANCE)
    mean.linear.weight.copy_(slopes.T)
    mean.linear.bias.copy_(moments.mean_u - moments.mean_x @ slopes)
    _set_covariance(member.flow, torch.linalg.cholesky(covariance))
    at_training = 0.5 * (member.flow.d * (1 + LOG_2PI) + torch.logdet(covariance))
    held_out = -member(*rows.valid).mean()
    return History([float(at_training)], [float(held_out)], best_epoch=0)


def _moments(rows: Rows, seen: Float[Tensor, " m"]) -> _Moments:
    """Of the rows of the first epoch, in float64; columns that are not seen are 0."""
    d = rows.valid[0].shape[1]
    columns = d + sum(part[0].numel() for part in rows.valid[1:])
    n, total = 0, torch.zeros(columns, dtype=torch.float64)
    products = torch.zeros(columns, columns, dtype=torch.float64)
    for _, batch in rows.batches(0):
        both = _columns(batch).double()
        both[:, d:] *= seen
        n, total = n + len(both), total + both.sum(dim=0)
        products.addmm_(both.T, both)
    mean = total / n
    spread = products - n * torch.outer(mean, mean)
    return _Moments(n, mean[d:], mean[:d], spread[d:, d:], spread[d:, :d], spread[:d, :d])


def _ridge(moments: _Moments) -> tuple[Float[Tensor, "m d"], Float[Tensor, " d"]]:
    """B, and the variance of the residuals of each component by generalised cross-validation."""
    values, vectors = torch.linalg.eigh(moments.xx)
    kept = values > _LEAST_SHARE * values.max().clamp(min=_LEAST_VARIANCE)
    values, vectors = values[kept], vectors[:, kept]
    along = vectors.T @ moments.xu
    explained = along.square() / values[:, None]
    shrunk = values / (values + moments.n * _PENALTIES[:, None])
    left = moments.uu.diagonal() - (2 * shrunk - shrunk.square()) @ explained
    freedom = (1 - (shrunk.sum(dim=1) + 1) / moments.n)[:, None]
    criterion = left.clamp(min=0.0) / moments.n / freedom.square()
    criterion = torch.where(freedom > _LEAST_FREEDOM, criterion, torch.inf)
    best = criterion.argmin(dim=0)
    slopes = vectors @ (shrunk[best].T / values[:, None] * along)
    return slopes, criterion.gather(0, best[None])[0]


def _set_covariance(flow: ConditionalFlow, factor: Float[Tensor, "d d"]) -> None:
    """The context is the mean; `factor` is the Cholesky factor of S."""
    scale = factor.diagonal()
    for layer in flow.layers:
        if isinstance(layer, ConditionalAffine):
            layer.fix(torch.eye(flow.d), scale.log())
        elif isinstance(layer, Triangular):
            layer.fix(factor / scale[:, None])


def _columns(data: tuple[Tensor, ...]) -> Float[Tensor, "rows m"]:
    """The parts of each data set as one row."""
    return torch.cat([part.flatten(start_dim=1) for part in data], dim=1)
