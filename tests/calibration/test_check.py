"""`sf.check` on an exact posterior, on ones made too wide and too narrow, and on one that learnt nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

import sbi_flows as sf
from sbi_flows.errors import SettingsError, TooFewSimulationsError
from simulators.gaussian import make_gaussian, posterior_moments
from simulators.ricker import make_ricker

SIMULATOR = make_gaussian(2)


class Known:
    """A posterior in closed form behind the face of `sf.Posterior`: N(mean(y), width^2 S)."""

    def __init__(
        self, width: float, mean: Callable[[np.ndarray], np.ndarray] = lambda y: posterior_moments(y)[0]
    ) -> None:
        self.prior, self.event_shape, self.names = SIMULATOR.prior, (2,), SIMULATOR.prior.names
        self.facts: dict[str, Any] = {"simulator": "gaussian", "seed": 0, "versions": {}}
        self.law = multivariate_normal(np.zeros(2), width**2 * posterior_moments(np.zeros(2))[1])
        self.mean = mean

    def sample(self, y: np.ndarray, n: int, *, seed: int) -> Any:
        noise = np.random.default_rng(seed).multivariate_normal(np.zeros(2), self.law.cov, (len(y), n))
        return SimpleNamespace(values=np.array([self.mean(row) for row in y])[:, None] + noise)

    def log_prob(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        centre = np.array([self.mean(row) for row in y])
        offsets = theta - (centre if theta.ndim == 2 else centre[:, None])
        return np.asarray(self.law.logpdf(offsets)).reshape(offsets.shape[:-1])


def checked(posterior: Any, seed: int = 0) -> sf.Check:
    return sf.check(posterior, SIMULATOR, n=1000, seed=seed)


def test_an_exact_posterior_is_trusted() -> None:
    for seed in range(10):
        check = checked(Known(1.0), seed)
        assert check.ok, check.text
        assert check.gain > 0.5


@pytest.mark.parametrize(
    ("width", "level"), [(0.7, "do not trust"), (0.88, "caution"), (1.14, "caution"), (1.5, "do not trust")]
)
def test_a_wrong_width_is_called_with_its_size(width: float, level: str) -> None:
    check = checked(Known(width))
    assert check.level == level
    assert {one.test: one.level for one in check.outcomes}["dispersion"] == level


def test_a_posterior_that_ignores_the_data_is_not_trusted_although_its_ranks_are_uniform() -> None:
    class PriorOnly(Known):
        def sample(self, y: np.ndarray, n: int, *, seed: int) -> Any:
            return SimpleNamespace(values=np.random.default_rng(seed).standard_normal((len(y), n, 2)))

        def log_prob(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.asarray(norm.logpdf(theta).sum(axis=-1))

    check = checked(PriorOnly(1.0))
    assert check.level == "do not trust"
    assert "nothing reliable was learnt" in check.text


def test_a_posterior_with_swapped_parameters_is_not_trusted() -> None:
    assert checked(Known(1.0, lambda y: posterior_moments(y)[0][::-1])).level == "do not trust"


def test_a_trained_posterior_is_judged_and_the_page_is_written(
    gaussian_posterior: sf.Posterior, tmp_path: Path
) -> None:
    check = sf.check(gaussian_posterior, SIMULATOR, n=300, seed=1)
    assert check.quantities["quantity"].tolist() == [
        "theta_1",
        "theta_2",
        "log q",
        "log-likelihood",
        "distance to a random point",
    ]
    check.to_html(tmp_path / "check.html")
    page = (tmp_path / "check.html").read_text()
    assert "Calibration check: gaussian" in page
    assert page.count("<svg") == 3


def test_too_few_pairs_or_another_simulator_are_refused(gaussian_posterior: sf.Posterior) -> None:
    with pytest.raises(TooFewSimulationsError, match="at least 100 pairs"):
        sf.check(gaussian_posterior, SIMULATOR, n=20)
    with pytest.raises(SettingsError, match="Pass the one it was trained on"):
        sf.check(gaussian_posterior, make_gaussian(3))


def ricker_of_another_scale() -> sf.Simulator:
    right = make_ricker(steps=30)

    @sf.simulator(right.prior, event_shape=(30,))
    def ricker(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return np.round(0.7 * np.asarray(right.function(theta, rng)))

    return ricker


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "epochs", "simulator"),
    [
        (5000, 1, make_ricker(steps=30)),
        (200, 100, make_ricker(steps=30)),
        (3000, 8, ricker_of_another_scale()),
    ],
    ids=["one epoch", "200 simulations", "another simulator"],
)
def test_a_poorly_trained_network_is_not_trusted(n: int, epochs: int, simulator: sf.Simulator) -> None:
    settings = sf.FitSettings(width=32, members=1, train=sf.TrainSettings(epochs=epochs))
    posterior = sf.fit(simulator, n_simulations=n, seed=1, settings=settings, say=None)
    found = sf.check(posterior, make_ricker(steps=30), n=600, seed=2)
    assert found.level == "do not trust", found.text
    assert "Next: more simulations" in found.text


def test_an_observation_can_be_judged_too(gaussian_posterior: sf.Posterior, tmp_path: Path) -> None:
    found = sf.check(gaussian_posterior, SIMULATOR, n=400, seed=1, y_obs=[0.5, -0.2])
    assert found.table["test"].iloc[-1] == "local C2ST"
    assert "at the observation" in found.table["sentence"].iloc[-1]
    assert "predictions" in found.table["test"].tolist()
    found.to_html(tmp_path / "check.html")
    assert (tmp_path / "check.html").read_text().count("<svg") == 5
    with pytest.raises(TooFewSimulationsError, match="twice as many at an observation"):
        sf.check(gaussian_posterior, SIMULATOR, n=150, y_obs=[0.5, -0.2])


def test_an_observation_far_from_all_simulations_is_never_trusted(gaussian_posterior: sf.Posterior) -> None:
    far = sf.check(gaussian_posterior, SIMULATOR, n=200, y_obs=np.array([300.0, -300.0]))
    assert far.level == "do not trust"
    assert "outside the training distribution" in far.text
    near = sf.check(gaussian_posterior, SIMULATOR, n=200, y_obs=np.array([0.3, -0.3]))
    found = {outcome.test: outcome.level for outcome in near.outcomes}
    assert found["misspecification"] == "trust"


def test_what_is_no_posterior_or_no_simulator_is_refused_in_words(gaussian_posterior: sf.Posterior) -> None:
    for wrong, words in (
        (
            ("p.safetensors", SIMULATOR),
            r"takes a posterior .* got str. Load it first: sf.load\('p.safetensors'\)",
        ),
        ((gaussian_posterior, gaussian_posterior), "takes a simulator made with"),
        ((gaussian_posterior, make_gaussian(3)), "Pass the one it was trained on"),
    ):
        with pytest.raises(SettingsError, match=words):
            sf.check(*wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="n must be an integer, got '200'"):
        sf.check(gaussian_posterior, SIMULATOR, n="200")  # type: ignore[arg-type]


def test_the_log_likelihood_is_ranked_where_there_is_one_and_one_that_fails_loses_nothing_else(
    bounded_posterior: sf.Posterior,
) -> None:
    posterior = bounded_posterior

    def with_likelihood(function: Any) -> sf.Simulator:
        @sf.simulator(posterior.prior, event_shape=(3,), log_likelihood=function)
        def bounded(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
            centre = np.stack([theta["a"], theta["b"], theta["a"] * theta["b"]], axis=1)
            return centre + 0.1 * rng.standard_normal(centre.shape)

        return bounded

    def right(theta: dict[str, np.ndarray], y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        centre = np.stack([theta["a"], theta["b"], theta["a"] * theta["b"]], axis=1)
        return np.asarray(norm.logpdf(y, centre, 0.1).sum(axis=1))

    def wrong(theta: dict[str, np.ndarray], y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise RuntimeError("no convergence")

    ranked = sf.check(posterior, with_likelihood(right), n=100, seed=1)
    assert "log-likelihood" in ranked.quantities["quantity"].tolist()
    assert ranked.left_out == ()
    lost = sf.check(posterior, with_likelihood(wrong), n=100, seed=1)
    assert "not judged: it failed with RuntimeError: no convergence" in lost.text
    assert "likelihood of the truth" not in lost.table["test"].tolist()
    none = sf.check(posterior, with_likelihood(wrong), n=100, seed=1, n_likelihood=0)
    assert none.left_out == ()
    with pytest.raises(SettingsError, match="n_likelihood must be 0 or an integer of at least 100, got 20"):
        sf.check(posterior, with_likelihood(right), n=100, n_likelihood=20)
