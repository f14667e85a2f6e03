"""One contract for every recipe: whatever its weights, a flow is a density with an exact inverse."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch

from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.matching import FlowMatching
from sbi_flows.flows.recipes import RECIPES, FlowKind, build_flow
from sbi_flows.flows.sampling import SAMPLING_RECIPES, SamplingKind

pytestmark = pytest.mark.seeds_torch

CASES = [(kind, d) for kind in RECIPES for d in (1, 2, 3, 5)]
CONTEXT = 4


def made(kind: str, d: int, *, context: int = CONTEXT, spread: float = 0.1) -> ConditionalFlow:
    """A flow in float64 whose weights are far from the identity at which it starts."""
    torch.manual_seed(d)
    flow = build_flow(kind, d, context, width=16, layers=3).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    if isinstance(flow, FlowMatching):  # few steps: what is exact is so for any number of them
        flow.layers[0].steps.fill_(6)
    return flow.eval()


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_to_value_inverts_to_noise_and_the_log_dets_cancel(kind: str, d: int) -> None:
    flow = made(kind, d)
    value, context = 2 * torch.randn(50, d).double(), torch.randn(50, CONTEXT).double()
    noise, forward = flow.to_noise(value, context)
    back, backward = flow.to_value(noise, context)
    if kind != "matching":  # there `to_value` refines what `value` gives (test_matching)
        assert torch.equal(flow.value(noise, context), back)
    torch.testing.assert_close(back, value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(forward + backward, torch.zeros(50).double(), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_log_det_is_that_of_the_autodiff_jacobian(kind: str, d: int) -> None:
    flow = made(kind, d)
    value, context = torch.randn(5, d).double(), torch.randn(5, CONTEXT).double()
    _, log_det = flow.to_noise(value, context)
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(
            lambda v, c=context[i : i + 1]: flow.to_noise(v[None], c)[0][0], value[i]
        )
        torch.testing.assert_close(log_det[i], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize("d", [1, 2])
def test_density_integrates_to_one(kind: str, d: int) -> None:
    flow = made(kind, d)
    context = torch.randn(1, CONTEXT).double()
    points = 4001 if d == 1 else 201 if kind == "matching" else 601
    with torch.no_grad():
        draws, _ = flow.to_value(torch.randn(20_000, d).double(), context.expand(20_000, -1))
        low, high = draws.amin(dim=0), draws.amax(dim=0)
        low, high = low - 0.5 * (high - low), high + 0.5 * (high - low)
        axes = [torch.linspace(float(low[j]), float(high[j]), points).double() for j in range(d)]
        grid = torch.cartesian_prod(*axes).reshape(-1, d)
        cell = float(((high - low) / (points - 1)).prod())
        mass = flow.log_prob(grid, context.expand(len(grid), -1)).exp().sum() * cell
    assert float(mass) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_gradient_reaches_every_parameter(kind: str, d: int) -> None:
    flow = made(kind, d)
    flow.log_prob(torch.randn(200, d).double(), torch.randn(200, CONTEXT).double()).mean().backward()
    silent = [name for name, p in flow.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # One component has none before it: only the weights that would bring those in may be silent.
    assert all(name.endswith("net.into.weight") for name in silent) if d == 1 else not silent


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_a_row_gives_the_same_density_alone_and_in_a_batch(kind: str, d: int) -> None:
    flow = made(kind, d)
    value, context = torch.randn(64, d).double(), torch.randn(64, CONTEXT).double()
    with torch.no_grad():
        together = flow.log_prob(value, context)
        alone = torch.cat([flow.log_prob(value[i : i + 1], context[i : i + 1]) for i in range(64)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "d"), CASES)
@pytest.mark.parametrize("shape", [(3, 1), (1, 1), (1, 7), (7,), (3, 7), ()])
def test_a_context_broadcasts_over_rows_as_if_it_were_repeated(
    kind: str, d: int, shape: tuple[int, ...]
) -> None:
    flow = made(kind, d)
    value, context = torch.randn(3, 7, d).double(), torch.randn(*shape, CONTEXT).double()
    repeated = context.expand(3, 7, CONTEXT).reshape(21, CONTEXT)
    with torch.no_grad():
        for method in (flow.to_noise, flow.to_value):
            found, log_det = method(value, context)
            flat, flat_log_det = method(value.reshape(21, d), repeated)
            assert found.shape == (3, 7, d)
            torch.testing.assert_close(found, flat.reshape(3, 7, d), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(log_det, flat_log_det.reshape(3, 7), rtol=1e-10, atol=1e-10)
        flat = flow.log_prob(value.reshape(21, d), repeated)
        torch.testing.assert_close(flow.log_prob(value, context), flat.reshape(3, 7), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize("wanted", [torch.no_grad, torch.enable_grad])
def test_there_may_be_no_rows_and_rows_without_an_axis(
    kind: str, wanted: type[torch.no_grad] | type[torch.enable_grad]
) -> None:
    flow = made(kind, 3)
    with wanted():
        assert flow.log_prob(torch.zeros(0, 3).double(), torch.zeros(0, CONTEXT).double()).shape == (0,)
        none, _ = flow.to_value(torch.zeros(2, 0, 3).double(), torch.zeros(2, 1, CONTEXT).double())
        assert none.shape == (2, 0, 3)
        one, log_det = flow.to_value(torch.ones(3).double(), torch.ones(CONTEXT).double())
        rows, _ = flow.to_value(torch.ones(1, 3).double(), torch.ones(1, CONTEXT).double())
    assert log_det.shape == ()
    torch.testing.assert_close(one, rows[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_the_inverse_has_the_gradient_of_the_inverse_function(kind: str, d: int) -> None:
    """With gradients the inverse uses other storage; dvalue/dnoise still inverts dnoise/dvalue."""
    flow = made(kind, d)
    noise, context = torch.randn(1, d).double(), torch.randn(1, CONTEXT).double()
    with torch.no_grad():
        value, log_det = flow.to_value(noise, context)
    again, again_log_det = flow.to_value(noise, context)
    torch.testing.assert_close(again, value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again_log_det, log_det, rtol=1e-12, atol=1e-12)
    there = torch.autograd.functional.jacobian(lambda v: flow.to_noise(v[None], context)[0][0], value[0])
    back = torch.autograd.functional.jacobian(lambda n: flow.to_value(n[None], context)[0][0], noise[0])
    torch.testing.assert_close(there @ back, torch.eye(d).double(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_a_rebuilt_flow_with_the_same_leaves_is_the_same_function(kind: str, d: int) -> None:
    flow = made(kind, d)
    torch.manual_seed(999)
    other = build_flow(kind, d, CONTEXT, width=16, layers=3).double()
    other.load_state_dict(flow.state_dict())
    value, context = torch.randn(8, d).double(), torch.randn(8, CONTEXT).double()
    assert torch.equal(flow.log_prob(value, context), other.log_prob(value, context))
    assert not [name for name in flow.state_dict() if "mask" in name or "degrees" in name]


@pytest.mark.parametrize(("kind", "d"), CASES)
def test_a_new_flow_is_close_to_the_identity(kind: str, d: int) -> None:
    torch.manual_seed(0)
    flow = build_flow(kind, d, CONTEXT)
    _, log_det = flow.to_noise(torch.randn(100, d), torch.randn(100, CONTEXT))
    assert float(log_det.detach().abs().max()) < 0.1 * d


@pytest.mark.parametrize("kind", RECIPES)
def test_one_parameter_may_be_far_from_gaussian(kind: str) -> None:
    """Fitted to two well-separated modes, one component must put its mass in both and little between."""
    torch.manual_seed(0)
    flow = build_flow(kind, 1, 1, width=32)
    rng = np.random.default_rng(0)
    value = torch.from_numpy(
        np.where(rng.random(4000) < 0.5, -1.0, 1.0) + 0.15 * rng.standard_normal(4000)
    ).float()[:, None]
    if kind == "matching":  # eight times and noises to each row
        value = value[::8]
    context = torch.zeros(len(value), 1)
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        flow.loss(value, context).mean().backward()
        optimiser.step()
    exact_entropy = math.log(2) + 0.5 * math.log(2 * math.pi * math.e * 0.15**2)
    gaussian_entropy = 0.5 * math.log(2 * math.pi * math.e * (1 + 0.15**2))
    loss = float(-flow.log_prob(value, context).mean().detach())
    assert loss < exact_entropy + 0.15 * (gaussian_entropy - exact_entropy)


def test_the_names_for_type_checkers_are_those_of_the_tables() -> None:
    assert get_args(FlowKind) == tuple(RECIPES)
    assert get_args(SamplingKind) == tuple(SAMPLING_RECIPES)


def test_the_cheap_directions_are_stated() -> None:
    assert build_flow("nsf", 3, 1).cheap == {"density"}
    assert build_flow("maf", 3, 1).cheap == {"density"}
    assert build_flow("coupling", 3, 1).cheap == {"density", "sample"}
    assert build_flow("spline_coupling", 3, 1).cheap == {"density", "sample"}
    assert build_flow("matching", 3, 1).cheap == set()


def test_wrong_shapes_unknown_names_and_too_few_layers_are_refused() -> None:
    flow = build_flow("maf", 2, 3)
    with pytest.raises(ShapeError, match=r"\(4, 2\) and \(5, 3\)"):
        flow.log_prob(torch.zeros(4, 2), torch.zeros(5, 3))
    for value, context in [
        ((4, 3), (4, 3)),
        ((4, 2), (4, 2)),
        ((4, 2), (2, 4, 3)),
        ((2, 4, 2), (2, 3)),
        ((), (3,)),
        ((1, 2), (5, 3)),
    ]:
        for method in (flow.log_prob, flow.to_noise, flow.to_value):
            with pytest.raises(ShapeError, match=r"\(\*rows, 2\)"):
                method(torch.zeros(value), torch.zeros(context))
    with pytest.raises(SettingsError, match=f"{', '.join(RECIPES)}, got 'rnvp'"):
        build_flow("rnvp", 2, 3)
    with pytest.raises(SettingsError, match="layers"):
        build_flow("maf", 2, 3, layers=1)
