"""One contract for every flow that is cheap to draw from: draws with their exact log density."""

from __future__ import annotations

import pytest
import torch

from sbi_flows.errors import SettingsError
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.sampling import GAUSSIAN_KINDS, SAMPLING_RECIPES, build_sampling_flow

pytestmark = pytest.mark.seeds_torch

KINDS = tuple(SAMPLING_RECIPES)
CASES = [(kind, d) for kind in KINDS for d in (1, 2, 3, 5)]
CONTEXT = 4


def made(kind: str, d: int) -> ConditionalFlow:
    """A flow in float64 whose weights are far from where it starts."""
    torch.manual_seed(d)
    flow = build_sampling_flow(kind, d, CONTEXT, width=16, layers=3).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return flow.eval()


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_the_density_of_a_draw_is_that_of_the_change_of_variables(kind: str, d: int) -> None:
    flow = made(kind, d)
    noise, context = torch.randn(4, d).double(), torch.randn(4, CONTEXT).double()
    _, log_q = flow.draw(noise, context)
    normal = torch.distributions.Normal(0.0, 1.0)
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda e, c=context[i : i + 1]: flow.to_value(e[None], c)[0][0], noise[i]
        )
        expected = normal.log_prob(noise[i]).sum() - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(log_q[i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kind", "d"), [case for case in CASES if case[0] != "planar"])
def test_the_density_of_a_draw_is_that_of_the_value_wherever_it_comes_from(kind: str, d: int) -> None:
    flow = made(kind, d)
    noise, context = torch.randn(50, d).double(), torch.randn(50, CONTEXT).double()
    value, log_q = flow.draw(noise, context)
    torch.testing.assert_close(flow.log_prob(value, context), log_q, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow.to_noise(value, context)[0], noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_planar_steps_are_invertible_whatever_their_weights(d: int) -> None:
    """The determinant of each step is positive: with u as it comes, w . u < -1 would let the map fold."""
    torch.manual_seed(0)
    flow = build_sampling_flow("planar", d, CONTEXT).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(3 * torch.randn_like(parameter))
    _, log_det = flow.to_value(torch.randn(500, d).double(), torch.randn(500, CONTEXT).double())
    assert torch.isfinite(log_det).all()


@pytest.mark.parametrize("kind", KINDS)
def test_draws_for_a_context_broadcast(kind: str) -> None:
    flow = made(kind, 3)
    noise, context = torch.randn(5, 7, 3).double(), torch.randn(5, 1, CONTEXT).double()
    value, log_q = flow.draw(noise, context)
    flat, flat_log_q = flow.draw(noise.reshape(35, 3), context.expand(5, 7, CONTEXT).reshape(35, CONTEXT))
    torch.testing.assert_close(value, flat.reshape(5, 7, 3), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_q, flat_log_q.reshape(5, 7), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_gradient_reaches_every_parameter_through_draws(kind: str, d: int) -> None:
    flow = made(kind, d)
    value, log_q = flow.draw(torch.randn(200, d).double(), torch.randn(200, CONTEXT).double())
    (log_q + value.pow(4).sum(dim=-1)).mean().backward()
    silent = [name for name, p in flow.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(name.endswith("net.into.weight") for name in silent) if d == 1 else not silent


@pytest.mark.parametrize("kind", GAUSSIAN_KINDS)
def test_gaussians_are_affine(kind: str) -> None:
    flow = made(kind, 3)
    context = torch.randn(1, CONTEXT).double()
    a, b = torch.randn(2, 10, 3).double()
    at = [flow.to_value(noise, context)[0] for noise in (a, b, 0.3 * a + 0.7 * b)]
    torch.testing.assert_close(at[2], 0.3 * at[0] + 0.7 * at[1])


def test_drawing_is_cheap_and_unknown_densities_and_kinds_are_refused() -> None:
    for kind in KINDS:
        assert "sample" in build_sampling_flow(kind, 3, 1).cheap
    assert build_sampling_flow("iaf", 3, 1).cheap == build_sampling_flow("planar", 3, 1).cheap == {"sample"}
    with pytest.raises(SettingsError, match="planar"):
        made("planar", 2).log_prob(torch.zeros(1, 2).double(), torch.zeros(1, CONTEXT).double())
    with pytest.raises(SettingsError, match=f"{', '.join(KINDS)}, got 'maf'"):
        build_sampling_flow("maf", 2, 1)
    with pytest.raises(SettingsError, match="layers"):
        build_sampling_flow("iaf", 2, 1, layers=1)
