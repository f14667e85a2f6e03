"""What was observed: NaN means that a value was not."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def observed(y: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """(value, mask): mask is 1 where y is not NaN and 0 elsewhere; value is y with 0 in place of NaN."""
    seen = ~torch.isnan(y)
    return torch.where(seen, y, torch.zeros_like(y)), seen.to(y.dtype)
