"""The rule that picks a summary network sees order in time, also where no linear correlation is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sbi_flows as sf
from sbi_flows.errors import SettingsError
from sbi_flows.nets.choice import NETWORKS, choose_summary
from sbi_flows.nets.layout import Part
from simulators.ricker import great_tits, ricker


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def autoregressive(n: int, steps: int, channels: int = 1) -> np.ndarray:
    noise = rng().standard_normal((n, steps, channels))
    for t in range(1, steps):
        noise[:, t] += 0.7 * noise[:, t - 1]
    return noise


@pytest.mark.parametrize(
    "y",
    [
        sf.simulate(ricker, 1000, seed=1).y,
        sf.simulate(great_tits, 1000, seed=1).y,
        autoregressive(500, 60)[..., 0],
        autoregressive(500, 60, 3),
        np.cumsum(rng().standard_normal((500, 200)), axis=1),
    ],
    ids=["ricker", "great_tits", "autoregressive", "three channels", "random walk"],
)
def test_series_are_recognised(y: np.ndarray) -> None:
    assert choose_summary(y)[0] == "series"


@pytest.mark.parametrize(
    "y",
    [
        rng().standard_normal((500, 1)) + rng().standard_normal((500, 50)),
        rng().poisson(3, (500, 100)),
        rng().standard_normal((500, 10)),
        rng().standard_normal((500, 30, 30)),
        rng().standard_normal(500),
        autoregressive(500, 60)[:, rng().permutation(60), 0],
    ],
    ids=["exchangeable set", "independent counts", "short", "image", "scalar", "shuffled series"],
)
def test_everything_else_is_a_vector(y: np.ndarray) -> None:
    assert choose_summary(y)[0] == "vector"


def test_the_reason_is_given_with_its_numbers() -> None:
    kind, reason = choose_summary(autoregressive(500, 60)[..., 0])
    assert kind == "series"
    assert "60 steps in time (largest correlation of powers 0." in reason


def part_of(name: str, channels: int, columns: int = 7) -> tuple[Part, tuple[int, ...]]:
    """An array for that network, and the shape in which it takes it."""
    if name == "vector":
        return Part("", name, (), columns * channels), (columns * channels,)
    return Part("", name, (5, 5) if name == "grid" else (25,), channels), (25, channels)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("columns", [1, 7])
@pytest.mark.seeds_torch
def test_every_network_gives_the_declared_number_of_features_and_passes_gradients(
    name: str, channels: int, columns: int
) -> None:
    """The contract of a summary network: what is in the table passes it."""
    part, shape = part_of(name, channels, columns)
    network = NETWORKS[name].build(part, 6, 16)
    y = torch.randn(5, *shape)
    assert network(y).shape == (5, 6)
    for p in network.parameters():
        with torch.no_grad():
            p.add_(0.1 * torch.randn_like(p))
    network(y).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert network.double()(y.double()).dtype == torch.float64


def test_an_unknown_network_is_refused_and_those_that_exist_are_named() -> None:
    with pytest.raises(SettingsError, match="'vector', 'series'"):
        sf.FitSettings(summary="image")
