"""What was observed and what was not."""

from __future__ import annotations

import pytest
import torch

from sbi_flows.nets.masks import observed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_masks(dtype: torch.dtype) -> None:
    y = torch.tensor([[1.0, torch.nan], [torch.nan, -3.0]], dtype=dtype)
    value, mask = observed(y)
    assert value.tolist() == [[1.0, 0.0], [0.0, -3.0]]
    assert mask.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert value.dtype == mask.dtype == dtype
