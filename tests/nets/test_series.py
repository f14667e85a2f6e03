"""The network of series with gaps and unequal lengths: the rules that it keeps for any weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbi_flows.nets.series import MaskedSeries
from sbi_flows.rng import stream, torch_scope


def network(channels: int = 2, dtype: torch.dtype = torch.float64) -> MaskedSeries:
    """With weights none of which is zero."""
    with torch_scope(stream(1, "weights")):
        module = MaskedSeries(channels, 8, 16).to(dtype)
        for weight in module.head.last.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    return module


def series(rows: int = 6, length: int = 30, channels: int = 2, missing: float = 0.3) -> torch.Tensor:
    rng = np.random.default_rng(2)
    y = rng.standard_normal((rows, length, channels))
    y[rng.random(y.shape) < missing] = np.nan
    return torch.from_numpy(y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_missing_steps_at_the_end_change_nothing(dtype: torch.dtype) -> None:
    module, y = network(dtype=dtype), series().to(dtype)
    padded = torch.nn.functional.pad(y, (0, 0, 0, 25), value=torch.nan)
    torch.testing.assert_close(module(padded), module(y), atol=1e-6, rtol=1e-6)


def test_a_row_is_the_same_alone_and_among_rows_of_other_lengths() -> None:
    module, y = network(), series()
    y[1, 20:], y[2, 7:] = torch.nan, torch.nan
    together = module(y)
    for i, length in enumerate((30, 20, 7)):
        torch.testing.assert_close(module(y[i : i + 1, :length]), together[i : i + 1], atol=1e-6, rtol=0)


def test_gaps_and_order_and_length_are_seen() -> None:
    module, y = network(), series(missing=0.0)
    whole = module(y)
    gap = y.clone()
    gap[:, 10] = torch.nan
    for other in (gap, y.flip(1), y[:, :29], torch.where(torch.isnan(gap), 0.0, gap)):
        assert (module(other) - whole).abs().amax(dim=1).min() > 1e-4


def test_every_weight_has_a_gradient() -> None:
    module = network(dtype=torch.float32)
    module(series().float()).square().sum().backward()
    for name, weight in module.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["none", "one", "first", "last", "huge", "constant", "a channel"])
def test_extreme_series_give_finite_numbers_and_gradients(kind: str, dtype: torch.dtype) -> None:
    y = torch.full((3, 12, 2), torch.nan, dtype=dtype)
    if kind == "huge":
        y[:] = 1e6 * series(3, 12, missing=0.0).to(dtype)
    elif kind == "constant":
        y[:] = 1.0
    elif kind == "a channel":
        y[..., 1] = 0.5
    elif kind != "none":
        y[:, {"one": 5, "first": 0, "last": 11}[kind], 0] = 0.7
    module = network(dtype=dtype)
    out = module(y)
    out.sum().backward()
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in module.parameters())


@pytest.mark.parametrize("length", [1, 2, 3, 200])
def test_any_length_will_do(length: int) -> None:
    assert network(1)(series(2, length, 1, missing=0.0)).shape == (2, 8)
