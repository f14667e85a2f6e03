"""The network of maps: the rules that it keeps for any weights, and that it sees where something is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sbi_flows.nets.grid import GridSummary
from sbi_flows.rng import stream, torch_scope

AXES = pytest.mark.parametrize(
    "axes", [(1,), (40,), (2, 3), (1, 7), (32, 32), (9, 17), (4, 5, 6), (12, 2, 9)]
)


def network(axes: tuple[int, ...], channels: int = 2, dtype: torch.dtype = torch.float64) -> GridSummary:
    """With weights none of which is zero."""
    with torch_scope(stream(1, "weights")):
        module = GridSummary(axes, channels, 8, 16).to(dtype)
        for weight in module.head.last.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    return module


def maps(axes: tuple[int, ...], rows: int = 4, channels: int = 2, missing: float = 0.3) -> torch.Tensor:
    rng = np.random.default_rng(2)
    y = rng.standard_normal((rows, math.prod(axes), channels))
    y[rng.random(y.shape) < missing] = np.nan
    return torch.from_numpy(y)


@AXES
def test_every_weight_has_a_gradient_and_a_row_is_the_same_in_a_batch(axes: tuple[int, ...]) -> None:
    module, y = network(axes), maps(axes)
    out = module(y)
    assert out.shape == (4, 8)
    torch.testing.assert_close(torch.cat([module(row[None]) for row in y]), out, atol=1e-6, rtol=0)
    out.square().sum().backward()
    for name, weight in module.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_every_weight_of_a_large_map_has_a_gradient_that_is_not_zero() -> None:
    module = network((32, 32), dtype=torch.float32)
    module(maps((32, 32)).float()).square().sum().backward()
    for name, weight in module.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_where_something_is_is_seen() -> None:
    module = network((16, 16), 1)
    y = torch.zeros(16, 16, 16, 1, dtype=torch.float64)
    places = [(i, j) for i in (2, 6, 10, 14) for j in (2, 6, 10, 14)]
    for row, (i, j) in zip(y, places, strict=True):
        row[i - 1 : i + 2, j - 1 : j + 2] = 3.0
    out = module(y.flatten(1, 2))
    apart = torch.cdist(out, out) + torch.eye(16)
    assert apart.min() > 1e-3


def test_a_missing_pixel_is_not_a_zero() -> None:
    module, y = network((6, 7), 1), maps((6, 7), 3, 1, missing=0.0)
    gap, zero = y.clone(), y.clone()
    gap[:, 8], zero[:, 8] = torch.nan, 0.0
    for one, other in ((gap, y), (gap, zero)):
        assert (module(one) - module(other)).abs().amax(dim=1).min() > 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["none", "one", "huge", "constant"])
def test_extreme_maps_give_finite_numbers_and_gradients(kind: str, dtype: torch.dtype) -> None:
    y = torch.full((3, 12 * 12, 2), torch.nan, dtype=dtype)
    if kind == "one":
        y[:, 50, 0] = 0.7
    elif kind == "huge":
        y[:] = 1e6 * maps((12, 12), 3, missing=0.0).to(dtype)
    elif kind == "constant":
        y[:] = 1.0
    module = network((12, 12), dtype=dtype)
    out = module(y)
    out.sum().backward()
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in module.parameters())
