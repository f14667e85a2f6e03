"""What was observed: the values, and where they are.

    mask = 1 where y is a number, 0 where it is NaN;     value = y where the mask is 1, 0 elsewhere

Every network of data with gaps begins with this, so what stands behind a missing value cannot reach it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def observed(y: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """value and mask, each of the shape and the type of y."""
    missing = y.isnan()
    return y.masked_fill(missing, 0.0), (~missing).to(y.dtype)


def masked_mean(
    value: Float[Tensor, "rows members c"], mask: Float[Tensor, "rows members #c"]
) -> Float[Tensor, "rows c"]:
    """The mean over members where the mask is 1; 0 where it is 0 for all of them."""
    return torch.sum(value * mask, dim=1) / mask.sum(dim=1).clamp(min=1.0)
