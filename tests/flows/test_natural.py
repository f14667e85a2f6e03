"""The natural scale of bounded parameters: closed form, inverse, slope, extremes, and its flow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from sbi_flows.flows.natural import NaturalScale
from sbi_flows.flows.recipes import build_flow
from sbi_flows.rng import torch_scope

EDGES = (0.01, 0.05, 0.3, 1.0)


def layer_with(edge: float, *, d: int = 1, dtype: torch.dtype = torch.float64) -> NaturalScale:
    layer = NaturalScale(d).to(dtype)
    layer.place(np.full(d, 0.3), np.full(d, 2.0), np.full(d, edge))
    return layer


NONE = torch.zeros(0, 1)


@pytest.mark.parametrize("edge", EDGES)
def test_it_is_the_quantile_function_of_a_uniform_plus_a_logistic_variable(edge: float) -> None:
    positions = np.array([0.002, 0.1, 0.5, 0.73, 0.999])
    value = (np.log(positions / (1 - positions)) - 0.3) / 2.0
    noise, _ = layer_with(edge).to_noise(torch.from_numpy(value)[None], NONE)
    for t, x in zip(positions, noise[0].numpy() / np.sqrt(3), strict=True):

        def below(w: float, x: float = x) -> float:
            return 0.5 / (1 + np.exp(-(x - w) / edge))

        assert quad(below, -1, 1, points=[np.clip(x, -1, 1)])[0] == pytest.approx(t, rel=1e-6)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_inverse_and_slope(edge: float, dtype: torch.dtype, tolerance: float) -> None:
    layer = layer_with(edge, dtype=dtype)
    value = torch.linspace(-6, 6, 101, dtype=dtype)[None].requires_grad_(True)
    noise, log_det = layer.to_noise(value, NONE)
    (slope,) = torch.autograd.grad(noise.sum(), value)
    torch.testing.assert_close(log_det, slope[0].log(), atol=10 * tolerance, rtol=tolerance)
    back, of_back = layer.to_value(noise.detach(), NONE)
    torch.testing.assert_close(back, value.detach(), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(of_back, -log_det.detach(), atol=10 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extremes_stay_finite_and_in_order(dtype: torch.dtype) -> None:
    layer = layer_with(0.01, dtype=dtype)
    value = torch.tensor([-1e4, -300.0, -60.0, 0.0, 60.0, 300.0, 1e4], dtype=dtype)[None]
    noise, log_det = layer.to_noise(value, NONE)
    assert torch.isfinite(noise).all()
    assert torch.isfinite(log_det).all()
    assert (noise.diff() > 0).all()
    far = torch.tensor([-50.0, -3.0, 3.0, 50.0], dtype=dtype)[None]
    assert torch.isfinite(layer.value(far, NONE)).all()
    assert (layer.value(far, NONE).diff() > 0).all()


def test_components_without_an_edge_pass_through() -> None:
    layer = NaturalScale(2).double()
    layer.place(np.zeros(2), np.ones(2), np.array([0.0, 0.1]))
    value = torch.linspace(-2, 2, 10, dtype=torch.float64).repeat(2, 1)
    noise, _ = layer.to_noise(value, NONE)
    assert torch.equal(noise[0], value[0])
    assert not torch.equal(noise[1], value[1])
    untouched = NaturalScale(2).double()
    assert torch.equal(untouched.to_noise(value, NONE)[0], value)


def test_the_flow_on_the_natural_scale_is_normalised() -> None:
    with torch_scope(np.random.default_rng(0)):
        flow = build_flow("nsf_natural", 1, 2, width=16, layers=2).double()
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    flow.layers[0].place(np.array([0.2]), np.array([1.5]), np.array([0.05]))
    context = torch.tensor([0.4, -1.0], dtype=torch.float64)
    grid = torch.linspace(-60, 60, 400_001, dtype=torch.float64)
    with torch.no_grad():
        density = flow.log_prob(grid[:, None], context.expand(len(grid), 2)).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-3)
