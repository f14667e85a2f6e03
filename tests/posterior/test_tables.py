"""Several arrays by name: fitted, saved, drawn from, checked and compared as one array is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import SettingsError, ShapeError

PRIOR = sf.Prior(a=uniform(0, 1), b=norm(0, 1))
QUICK = sf.FitSettings(
    width=16, layers=2, summary_features=8, members=1, flow="maf", train=sf.TrainSettings(epochs=2)
)
DATA = {"counts": sf.Series(channels=("young", "adults")), "effort": sf.Vector(), "map": sf.Grid()}


def tables(theta: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = len(theta["a"])
    a, b = theta["a"], theta["b"]
    return {
        "map": a[:, None, None] + rng.standard_normal((n, 3, 4)),
        "counts": rng.poisson(np.exp(a)[:, None, None], (n, 6, 2)),
        "effort": b + rng.standard_normal(n),
    }


MODEL = sf.Simulator(tables, PRIOR, data=DATA)


@pytest.fixture(scope="module")
def simulations() -> sf.Simulations:
    """Pairs to fit."""
    return sf.simulate(MODEL, 400, seed=1)


@pytest.fixture(scope="module")
def posterior(simulations: sf.Simulations) -> sf.Posterior:
    """A quick fit."""
    return sf.fit(MODEL, simulations=simulations, settings=QUICK, say=None)


def observed(simulations: sf.Simulations, i: int = 0) -> dict[str, Any]:
    return {name: part[i] for name, part in simulations.y.items()}


def test_y_comes_as_it_was_returned(simulations: sf.Simulations) -> None:
    assert {name: part.shape for name, part in simulations.y.items()} == {
        "counts": (400, 6, 2),
        "effort": (400,),
        "map": (400, 3, 4),
    }
    assert simulations.flat_y.shape == (400, 25)


def test_one_event_a_stack_and_a_list(posterior: sf.Posterior, simulations: sf.Simulations) -> None:
    one = posterior.sample(observed(simulations), 20, seed=1)
    assert one.values.shape == (20, 2)
    several = {name: part[:3] for name, part in simulations.y.items()}
    stack = posterior.sample(several, 20, seed=1)
    listed = posterior.sample([observed(simulations, i) for i in range(3)], 20, seed=1)
    np.testing.assert_array_equal(stack.values, listed.values)
    np.testing.assert_allclose(stack.values[0], one.values, atol=1e-9)
    assert posterior.summaries(several).shape == (3, 8)
    assert posterior.log_prob(np.array([0.5, 0.0]), observed(simulations)).shape == ()


def test_columns_of_a_data_frame_are_matched_by_name(
    posterior: sf.Posterior, simulations: sf.Simulations
) -> None:
    y = observed(simulations)
    wanted = posterior.sample(y, 20).values
    frame = pd.DataFrame(y["counts"], columns=["young", "adults"])
    for given in (frame, frame[["adults", "young"]]):
        np.testing.assert_array_equal(posterior.sample({**y, "counts": given}, 20).values, wanted)
    with pytest.raises(ShapeError, match="'counts': the data frame has the columns a, b"):
        posterior.sample({**y, "counts": frame.set_axis(["a", "b"], axis=1)}, 20)


def test_pairs_from_elsewhere_give_the_bytes_of_simulate(
    posterior: sf.Posterior, simulations: sf.Simulations, tmp_path: Path
) -> None:
    given = sf.Simulations.from_arrays(
        PRIOR, simulations.theta, dict(reversed(simulations.y.items())), data=DATA, name="tables", seed=1
    )
    assert given.flat_y.tobytes() == simulations.flat_y.tobytes()
    posterior.save(tmp_path / "one.safetensors")
    sf.fit(simulations=given, settings=QUICK, say=None).save(tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()


def test_a_file_keeps_what_y_is(posterior: sf.Posterior, simulations: sf.Simulations, tmp_path: Path) -> None:
    posterior.save(tmp_path / "p.safetensors")
    loaded = sf.load(tmp_path / "p.safetensors")
    assert loaded.events == posterior.events
    y = observed(simulations)
    np.testing.assert_array_equal(loaded.sample(y, 20).values, posterior.sample(y, 20).values)


def test_abc_and_check_take_mappings(posterior: sf.Posterior, simulations: sf.Simulations) -> None:
    draws = sf.rejection_abc(MODEL, observed(simulations), simulations=simulations, quantile=0.1)
    assert draws.values.shape == (40, 2)
    assert sf.check(posterior, MODEL, n=100).posterior is posterior


def test_simulations_of_other_arrays_are_refused(simulations: sf.Simulations) -> None:
    flat = sf.Simulator(lambda theta, rng: rng.random((len(theta["a"]), 25)), PRIOR)
    with pytest.raises(ShapeError, match=r"y of counts \(6, 2\), series;.*wanted y of shape \(25,\)"):
        sf.fit(flat, simulations=simulations, settings=QUICK, say=None)
    other = sf.Simulator(
        lambda theta, rng: {"x": rng.random((len(theta["a"]), 25))}, PRIOR, data={"x": sf.Vector()}
    )
    with pytest.raises(ShapeError, match=r"wanted y of x \(25,\)"):
        sf.fit(other, simulations=simulations, settings=QUICK, say=None)


def test_a_likelihood_and_an_exact_posterior_get_the_mapping() -> None:
    def log_likelihood(theta: Any, y: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        assert y["effort"].shape == ()
        return np.asarray(norm(theta["b"], 1).logpdf(y["effort"]))

    def exact(y: dict[str, np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
        return np.tile([0.5, float(y["effort"])], (n, 1))

    model = sf.Simulator(tables, PRIOR, data=DATA, log_likelihood=log_likelihood, exact_posterior=exact)
    y = sf.simulate(model, 3, seed=1)
    assert model.log_likelihood is not None
    assert model.exact_posterior is not None
    theta, rng = {"a": np.array([0.5]), "b": np.array([0.1])}, np.random.default_rng(0)
    wanted = norm(0.1, 1).logpdf(y.y["effort"][1])
    np.testing.assert_allclose(model.log_likelihood(theta, y.flat_y[1], rng), [wanted])
    np.testing.assert_allclose(model.exact_posterior(y.flat_y[1], 2, rng)[:, 1], y.y["effort"][1])


SITES = {"north": 9, "south": 6, "west": 12}


def test_three_sites_of_unequal_length_are_a_mapping_of_series() -> None:
    @sf.simulator(PRIOR, data={name: sf.Series() for name in SITES})
    def sites(theta: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
        shape = len(theta["a"])
        return {name: rng.poisson(np.exp(theta["a"])[:, None], (shape, k)) for name, k in SITES.items()}

    said: list[str] = []
    posterior = sf.fit(sites, n_simulations=400, settings=QUICK, say=said.append)
    assert all(any(name in text and "series" in text for text in said) for name in SITES)
    y = {name: np.arange(k) for name, k in SITES.items()}
    assert posterior.sample(y, 10).values.shape == (10, 2)
    with pytest.raises(ShapeError, match=r"'south' has shape \(5,\).*\(6,\)"):
        posterior.sample({**y, "south": np.arange(5)}, 10)
    shorter = sf.fit(sites, like={**y, "south": np.arange(5)}, n_simulations=400, settings=QUICK, say=None)
    assert shorter.sample({**y, "south": np.arange(5)}, 10).values.shape == (10, 2)


def test_a_table_may_be_missing_where_the_fit_was_for_it(simulations: sf.Simulations) -> None:
    y = {**observed(simulations), "map": np.full((3, 4), np.nan)}
    posterior = sf.fit(MODEL, simulations=simulations, like=y, settings=QUICK, say=None)
    draws = posterior.sample(y, 10)
    assert np.isfinite(draws.values).all()
    assert "missing" not in draws.verdict.text
    assert "never" not in draws.verdict.text


def test_a_simulator_of_other_arrays_of_the_same_size_is_not_the_one_that_was_trained_on(
    posterior: sf.Posterior,
) -> None:
    total = posterior.event_shape[0]
    flat = sf.simulator(posterior.prior, event_shape=(total,))(lambda theta, rng: None)
    with pytest.raises(SettingsError, match="Pass the one it was trained on"):
        sf.check(posterior, flat)
