"""Values and masks of data with gaps."""

from __future__ import annotations

import pytest
import torch

from sbi_flows.nets.masks import masked_mean, observed

NAN = float("nan")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gap_is_a_zero_whose_mask_is_zero(dtype: torch.dtype) -> None:
    value, mask = observed(torch.tensor([[1.0, NAN], [0.0, -3.0]], dtype=dtype))
    assert value.tolist() == [[1.0, 0.0], [0.0, -3.0]]
    assert mask.tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert value.dtype == mask.dtype == dtype


def test_which_nan_it_is_changes_nothing() -> None:
    """NaN has many bit patterns."""
    bits = torch.tensor([0x7FC00000, 0x7FF00001, -0x00400000], dtype=torch.int32)
    value, mask = observed(bits.view(torch.float32))
    assert value.tolist() == mask.tolist() == [0.0, 0.0, 0.0]


def test_infinite_numbers_are_not_gaps() -> None:
    value, mask = observed(torch.tensor([torch.inf]))
    assert value.tolist() == [torch.inf]
    assert mask.tolist() == [1.0]


def test_the_mean_is_over_what_is_there() -> None:
    y = torch.tensor([[[1.0, NAN], [3.0, NAN], [NAN, NAN]], [[2.0, 5.0], [NAN, NAN], [NAN, 7.0]]])
    assert masked_mean(*observed(y)).tolist() == [[2.0, 0.0], [2.0, 6.0]]


def test_the_mean_with_one_mask_for_all_channels() -> None:
    value, mask = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]), torch.tensor([[[1.0], [0.0]]])
    assert masked_mean(value, mask).tolist() == [[1.0, 2.0]]
