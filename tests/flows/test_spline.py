"""The spline against nflows' own, and where values lie on knots, ends and outside."""

from __future__ import annotations

import pytest
import torch
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline
from torch import Tensor

from sbi_flows.flows.spline import BINS, BOUND, REACH, PinnedSpline, Spline

pytestmark = pytest.mark.seeds_torch

Kind = type[Spline] | type[PinnedSpline]
ROWS = [(400,), (7, 9), ()]


def drawn(rows: tuple[int, ...], spread: float = 1.5, wide: float = 3.0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    value = wide * torch.randn(3, *rows).double()
    parameters = spread * torch.randn(3, 3 * BINS - 1, *rows).double()
    return value.requires_grad_(), parameters.requires_grad_()


def by_nflows(value: Tensor, parameters: Tensor, temper: float, inverse: bool) -> tuple[Tensor, Tensor]:
    last = parameters.movedim(1, -1)
    widths, heights = temper * last[..., :BINS], temper * last[..., BINS : 2 * BINS]
    slopes = last[..., 2 * BINS :]
    found: tuple[Tensor, Tensor] = unconstrained_rational_quadratic_spline(
        value, widths, heights, slopes, inverse=inverse, tails="linear", tail_bound=BOUND
    )
    return found


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("temper", [1.0, 0.125])
def test_values_log_slopes_and_gradients_are_those_of_nflows(
    rows: tuple[int, ...], inverse: bool, temper: float
) -> None:
    value, parameters = drawn(rows, wide=2.0 if inverse else 3.0, spread=1.0)
    spline = PinnedSpline(temper)
    ours = (spline.to_value if inverse else spline.to_noise)(value, parameters)
    theirs = by_nflows(value, parameters, temper, inverse)
    weights = [torch.randn_like(value), torch.randn_like(value)]
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for found, expected in zip(
        torch.autograd.grad(ours, (value, parameters), weights),
        torch.autograd.grad(theirs, (value, parameters), weights),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [Spline, PinnedSpline])
@pytest.mark.parametrize("spread", [0.1, 1.5, 10.0])
def test_the_inverse_is_exact_to_rounding_whatever_the_knots(kind: Kind, spread: float) -> None:
    value, parameters = (x.detach() for x in drawn((5000,), spread))
    noise, log_slope = kind().to_noise(value, parameters)
    back, back_log_slope = kind().to_value(noise, parameters)
    again, _ = kind().to_noise(back, parameters)
    torch.testing.assert_close(again, noise, rtol=1e-12, atol=1e-12)
    if spread < 10:
        torch.testing.assert_close(back, value, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(back_log_slope, -log_slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
def test_values_and_gradients_are_finite_on_the_ends_outside_and_for_extreme_parameters(
    dtype: torch.dtype, spread: float
) -> None:
    torch.manual_seed(2)
    ends = torch.tensor([-1e30, -100.0, -5.0, 0.0, 5.0, 100.0, 1e30])
    values = torch.cat([ends, torch.nextafter(ends, ends + 1), torch.linspace(-5, 5, 400)])
    value = values.to(dtype).repeat(4, 1)
    parameters = (spread * torch.randn(4, 3 * BINS - 1, value.shape[1])).to(dtype)
    for method in (PinnedSpline().to_noise, PinnedSpline().to_value):
        leaves = value.clone().requires_grad_(), parameters.clone().requires_grad_()
        found, log_slope = method(*leaves)
        assert found.isfinite().all()
        assert log_slope.isfinite().all()
        outside = value.abs() > BOUND
        assert torch.equal(found[outside], value[outside])
        assert (log_slope[outside] == 0).all()
        (found[~outside].sum() + log_slope.sum()).backward()
        assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)
        assert leaves[1].grad is not None
        assert (leaves[1].grad.movedim(1, -1)[outside] == 0).all()


@pytest.mark.parametrize("kind", [Spline, PinnedSpline])
def test_infinite_and_missing_values_pass_through(kind: Kind) -> None:
    value = torch.tensor([[float("inf"), -float("inf"), float("nan")]])
    for method in (kind().to_noise, kind().to_value):
        found, _ = method(value, torch.tensor(kind().start)[None, :, None].expand(1, -1, 3))
        assert torch.equal(found[0, :2], value[0, :2])
        assert found[0, 2].isnan()


@pytest.mark.parametrize("kind", [Spline, PinnedSpline])
def test_the_start_is_the_identity(kind: Kind) -> None:
    value = torch.linspace(-6, 6, 50).double()[None]
    parameters = torch.tensor(kind().start, dtype=torch.float64)[None, :, None].expand(1, -1, 50)
    noise, log_slope = kind().to_noise(value, parameters)
    torch.testing.assert_close(noise, value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_slope, torch.zeros_like(value), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
def test_free_ends_are_finite_for_extreme_values_and_parameters(dtype: torch.dtype, spread: float) -> None:
    torch.manual_seed(2)
    ends = torch.tensor([-1e20, -100.0, -REACH, 0.0, REACH, 100.0, 1e20])
    value = torch.cat([ends, torch.linspace(-9, 9, 400)]).to(dtype).repeat(4, 1)
    parameters = (spread * torch.randn(4, 3 * BINS - 1, value.shape[1])).to(dtype)
    for method in (Spline().to_noise, Spline().to_value):
        leaves = value.clone().requires_grad_(), parameters.clone().requires_grad_()
        found, log_slope = method(*leaves)
        assert found.isfinite().all()
        assert log_slope.isfinite().all()
        (found[:, 7:].sum() + log_slope.sum()).backward()
        assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_log_slopes_and_gradients_with_free_ends_are_those_of_finite_differences() -> None:
    value, parameters = drawn((6,))
    noise, log_slope = Spline().to_noise(value, parameters)
    (slope,) = torch.autograd.grad(noise.sum(), value)
    torch.testing.assert_close(slope.log(), log_slope, rtol=1e-10, atol=1e-10)
    for method in (Spline().to_noise, Spline().to_value):
        assert torch.autograd.gradcheck(method, (value, parameters))


def test_beyond_free_ends_the_spline_is_straight_with_the_slope_of_the_outermost_bin() -> None:
    """And it rises everywhere, without a jump of value or slope at the ends."""
    _, parameters = (x.detach() for x in drawn((50,)))
    for sign in (-1.0, 1.0):
        at = [torch.full((3, 50), sign * x).double() for x in (REACH - 1e-9, REACH, REACH + 1, REACH + 5)]
        (x, inside), (end, there), (near, _), (far, slope) = (Spline().to_value(z, parameters) for z in at)
        torch.testing.assert_close(end, x, rtol=0, atol=1e-6)
        torch.testing.assert_close(inside, there, rtol=0, atol=1e-5)
        torch.testing.assert_close(slope, there, rtol=0, atol=1e-12)
        torch.testing.assert_close(far - end, 5 * (near - end), rtol=1e-9, atol=1e-9)
        assert (sign * (near - end) > 0).all()
