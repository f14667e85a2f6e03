"""Flow matching: what is exact for any number of steps, what is solved, and what is learned."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sbi_flows import flows
from sbi_flows.errors import SettingsError
from sbi_flows.flows.layers import ConditionalAffine
from sbi_flows.flows.matching import FlowMatching, Transport
from sbi_flows.flows.recipes import build_flow
from sbi_flows.rng import stream
from sbi_flows.training.settings import TrainSettings

from .test_recipes import CONTEXT, made

pytestmark = pytest.mark.seeds_torch


def matching(d: int, *, spread: float = 0.1) -> FlowMatching:
    flow = made("matching", d, spread=spread)
    assert isinstance(flow, FlowMatching)
    return flow


def rows(d: int, n: int = 40) -> tuple[Tensor, Tensor]:
    return torch.randn(n, d).double(), torch.randn(n, CONTEXT).double()


@pytest.mark.parametrize("d", [1, 3])
def test_a_gaussian_is_reached_without_training_the_network(d: int) -> None:
    """With the heads m and log s set and the network at zero, q is N(m, s^2) up to the steps."""
    flow = build_flow("matching", d, CONTEXT, width=8, layers=2).double().eval()
    transport = flow.layers[0]
    raw = 8 * math.atanh(math.log(0.3) / 8)  # log s is bounded by 8
    with torch.no_grad():
        transport.net.gaussian.bias.copy_(torch.tensor([0.7] * d + [raw] * d))
    value, context = rows(d)
    value = 0.7 + 0.3 * value
    exact = torch.distributions.Normal(0.7, 0.3).log_prob(value).sum(dim=1)
    off = []
    for steps in (8, 16, 32):
        transport.steps.fill_(steps)
        off.append(float((flow.log_prob(value, context) - exact).detach().abs().max()))
    # of the noise 0.002^2 / 0.3^2 = 4.4e-5 is left, times (z^2 - 1) / 2 with |z| < 4.5
    assert off[2] < 5e-4 * d
    assert off[2] < off[0]


def test_steps_are_of_order_four() -> None:
    flow = matching(2, spread=0.2)
    (value, context), found = rows(2), []
    for steps in (16, 32, 64, 256):
        flow.layers[0].steps.fill_(steps)
        with torch.no_grad():
            found.append(flow.log_prob(value, context))
    one, two, four = (float((part - found[3]).square().mean().sqrt()) for part in found[:3])
    assert one / two > 8  # 16 for small steps
    assert two / four > 8


@pytest.mark.parametrize("d", [1, 2])
def test_settled_steps_keep_what_they_promise(d: int) -> None:
    flow = matching(d, spread=0.2)
    value, context = rows(d, 200)
    flow.settle(value, context)
    chosen = int(flow.layers[0].steps)
    assert chosen in (8, 16, 32, 64)
    fresh, given = rows(d, 200)
    with torch.no_grad():
        noise, _ = flow.to_noise(fresh, given)
        back = flow.value(noise, given)
        again, _ = flow.to_noise(back, given)
        coarse = flow.log_prob(fresh, given).mean()
        exact, _ = flow.to_value(noise, given)
        flow.layers[0].steps.fill_(2 * chosen)
        fine = flow.log_prob(fresh, given).mean()
    # other rows than those that chose: ten times the tolerances
    assert float((again - noise).abs().amax(dim=1).quantile(0.99)) < 1e-2
    assert abs(float(fine - coarse)) < 2e-2
    torch.testing.assert_close(exact, fresh, rtol=0, atol=1e-9)


def test_the_number_of_steps_is_kept_with_the_weights() -> None:
    flow, other = matching(2), matching(2)
    flow.layers[0].steps.fill_(13)
    other.load_state_dict(flow.state_dict())
    assert int(other.layers[0].steps) == 13


def test_the_loss_is_the_same_in_evaluation_and_another_in_training() -> None:
    flow, (value, context) = matching(2), rows(2)
    with torch.no_grad():
        assert torch.equal(flow.loss(value, context), flow.loss(value, context))
        flow.train()
        assert not torch.equal(flow.loss(value, context), flow.loss(value, context))


def test_the_loss_bounds_minus_log_q_and_is_tight_for_a_gaussian() -> None:
    """At F = 0 and values from N(0, I) the bound is the entropy, on average; away from it, it is above."""
    torch.manual_seed(3)
    flow = build_flow("matching", 2, CONTEXT, width=8, layers=2).double().eval()
    value, context = rows(2, 20_000)
    with torch.no_grad():
        found = flow.loss(value, context)
    entropy = 1 + math.log(2 * math.pi)
    # false alarms 1e-5 two-sided: 4.42 standard errors
    assert abs(float(found.mean()) - entropy) < 4.42 * float(found.std()) / math.sqrt(len(found))
    far = matching(2, spread=0.3)
    with torch.no_grad():
        gap = far.loss(value[:4000], context[:4000]) + far.log_prob(value[:4000], context[:4000])
    assert float(gap.mean()) > 4.42 * float(gap.std()) / math.sqrt(len(gap))


def test_two_modes_are_learned_with_an_exact_density() -> None:
    """A fitted density of two separated normal modes: held-out density close to the exact one."""
    rng = stream(5, "modes")
    x = rng.choice([-2.0, 2.0], (4000, 1)) + 0.4 * rng.standard_normal((4000, 1))
    settings = TrainSettings(epochs=40)
    density = flows.fit_density(x[:3000], "matching", seed=1, width=32, layers=4, settings=settings)
    fresh = x[3000:]
    parts = -0.5 * ((fresh - [-2.0, 2.0]) / 0.4) ** 2 - math.log(0.4) - 0.5 * math.log(2 * math.pi)
    exact = torch.logsumexp(torch.from_numpy(parts), dim=1).numpy() - math.log(2)
    gap = exact - density.log_prob(fresh)
    gaussian = -0.5 * (fresh[:, 0] / x.std()) ** 2 - math.log(x.std()) - 0.5 * math.log(2 * math.pi)
    assert gap.mean() < 0.15 * (exact - gaussian).mean()
    torch.testing.assert_close(density.to_value(density.to_noise(fresh)), fresh, rtol=0, atol=1e-7)


def test_other_layers_are_refused() -> None:
    with pytest.raises(SettingsError, match="one Transport as its only layer, got \\[ConditionalAffine\\]"):
        FlowMatching(2, 1, [ConditionalAffine(2, 1)])
    with pytest.raises(SettingsError, match="only layer"):
        FlowMatching(2, 1, [Transport(2, 1, 8, 1), Transport(2, 1, 8, 1)])
