"""One contract for every simulator: those installed as plug-ins, and shapes of problem that no plug-in
has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import gamma, uniform

import sbi_flows as sf
from sbi_flows.problem.plugins import list_plugins
from simulators.gaussian import make_gaussian
from simulators.ricker import make_ricker

PLUGINS = {plugin.name: plugin for plugin in list_plugins()}


@sf.simulator(sf.Prior(rate=gamma(2.0), share=uniform(0, 1)), vectorized=False, observed={"quiet": [0, 0, 0]})
def one_at_a_time(theta: dict[str, float], rng: np.random.Generator) -> Any:
    """Three thinned Poisson counts."""
    return rng.binomial(rng.poisson(10 * theta["rate"], 3), theta["share"])


SIMULATORS = {
    **{name: plugin.simulator for name, plugin in PLUGINS.items() if plugin.simulator is not None},
    "one parameter": make_gaussian(1),
    "ten parameters": make_gaussian(10),
    "one at a time": one_at_a_time,
    "a short series": make_ricker(steps=8, observed={"counts": np.array([27.0, 1, 5, 42, 0, 0, 1, 7])}),
}

each = pytest.mark.parametrize("name", SIMULATORS)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_loads_and_carries_the_name_of_its_simulator(name: str) -> None:
    assert PLUGINS[name].error is None
    assert SIMULATORS[name].name == name
    assert sf.load_simulator(name) is SIMULATORS[name]


@each
def test_the_conformance_suite_passes(name: str) -> None:
    report = sf.testing.check_simulator(SIMULATORS[name])
    assert report.ok, report


@each
def test_observed_data_are_events(name: str) -> None:
    simulator = SIMULATORS[name]
    assert simulator.observed, "a simulator without observed data cannot be shown"
    for data in simulator.observed:
        assert simulator.data(data).shape == simulator.event_shape


@each
def test_draws_of_the_prior_lie_in_its_support_and_have_a_density(name: str) -> None:
    prior = SIMULATORS[name].prior
    theta = prior.sample(2000, np.random.default_rng(1))
    assert prior.inside(theta).all()
    assert np.isfinite(prior.log_prob(theta)).all()
    assert ((theta > prior.lower) & (theta < prior.upper)).all()


@each
def test_a_bank_gives_the_simulations_back(name: str, tmp_path: Any) -> None:
    sims = sf.simulate(SIMULATORS[name], 40, seed=2, store=tmp_path / "bank")
    back = sf.read_bank(tmp_path / "bank")
    assert back.theta[:40].tobytes() == sims.theta.tobytes()
    assert back.y[:40].tobytes() == sims.y.tobytes()
    assert back.prior == SIMULATORS[name].prior


@pytest.mark.parametrize(
    "name", [name for name, simulator in SIMULATORS.items() if simulator.log_likelihood is not None]
)
def test_a_likelihood_depends_on_its_own_row_of_theta(name: str) -> None:
    """Sorted by theta or not, each row keeps its value; an estimate keeps it to within its own error, seen
    from 20 repeats.
    """
    simulator = SIMULATORS[name]
    assert simulator.log_likelihood is not None
    theta = simulator.prior.sample(3, np.random.default_rng(2))
    y = simulator.run(theta[:1], np.random.default_rng(3))[0]
    rng = np.random.default_rng(4)
    forward, backward = (
        np.array([simulator.log_likelihood(simulator.prior.as_mapping(rows), y, rng) for _ in range(20)])
        for rows in (theta, theta[::-1])
    )
    spread = np.maximum(forward.std(axis=0), backward[:, ::-1].std(axis=0))
    assert (
        np.abs(np.median(forward, axis=0) - np.median(backward[:, ::-1], axis=0)) <= 3 * spread + 1e-9
    ).all()
