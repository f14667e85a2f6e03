"""Values and masks: how a network sees data of which a part is missing."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def observed(y: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """y with 0 in place of NaN, and a mask, 1 where there is a value and 0 where it is missing."""
    missing = torch.isnan(y)
    return torch.where(missing, torch.zeros((), dtype=y.dtype), y), (~missing).to(y.dtype)
