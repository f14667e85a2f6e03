"""`sf.check` on an exact posterior, on too wide and too narrow ones, and on one that learnt nothing."""

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
        self.distribution = multivariate_normal(np.zeros(2), width**2 * posterior_moments(np.zeros(2))[1])
        self.mean = mean

    def sample(self, y: np.ndarray, n: int, *, seed: int) -> Any:
        noise = np.random.default_rng(seed).multivariate_normal(
            np.zeros(2), self.distribution.cov, (len(y), n)
        )
        return SimpleNamespace(values=np.array([self.mean(row) for row in y])[:, None] + noise)

    def log_prob(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        centre = np.array([self.mean(row) for row in y])
        offsets = theta - (centre if theta.ndim == 2 else centre[:, None])
        return np.asarray(self.distribution.logpdf(offsets)).reshape(offsets.shape[:-1])


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
def test_a_wrong_dispersion_is_found_with_its_size(width: float, level: str) -> None:
    check = checked(Known(width))
    assert check.level == level
    assert check.quantities["dispersion"].iloc[:2].between(0.92 * width, 1.08 * width).all()


def test_a_posterior_that_ignores_the_data_is_not_trusted_although_its_ranks_are_uniform() -> None:
    class PriorOnly(Known):
        def sample(self, y: np.ndarray, n: int, *, seed: int) -> Any:
            return SimpleNamespace(values=np.random.default_rng(seed).standard_normal((len(y), n, 2)))

        def log_prob(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
            return np.asarray(norm.logpdf(theta).sum(axis=-1))

    check = checked(PriorOnly(1.0))
    assert check.level == "do not trust"
    assert check.outcomes[-1].level == "do not trust"
    assert check.gain == pytest.approx(0, abs=1e-6)


def test_a_posterior_with_swapped_parameters_is_not_trusted() -> None:
    assert checked(Known(1.0, lambda y: posterior_moments(y)[0][::-1])).level == "do not trust"


def test_a_trained_posterior_is_tested_and_the_page_is_written(
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
    with pytest.raises(TooFewSimulationsError, match="100.*n=20"):
        sf.check(gaussian_posterior, SIMULATOR, n=20)
    with pytest.raises(SettingsError, match="gaussian"):
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


def test_an_observation_can_be_tested_too(gaussian_posterior: sf.Posterior, tmp_path: Path) -> None:
    found = sf.check(gaussian_posterior, SIMULATOR, n=400, seed=1, y_obs=[0.5, -0.2])
    assert found.table["test"].iloc[-1] == "local C2ST"
    assert found.predictive_check is not None
    assert found.predicted is not None
    assert found.predicted.shape == (500, 2)
    found.to_html(tmp_path / "check.html")
    assert (tmp_path / "check.html").read_text().count("<svg") == 5
    with pytest.raises(TooFewSimulationsError, match="200.*n=150"):
        sf.check(gaussian_posterior, SIMULATOR, n=150, y_obs=[0.5, -0.2])


def test_an_observation_far_from_all_simulations_is_never_trusted(gaussian_posterior: sf.Posterior) -> None:
    far = sf.check(gaussian_posterior, SIMULATOR, n=200, y_obs=np.array([300.0, -300.0]))
    assert far.level == "do not trust"
    near = sf.check(gaussian_posterior, SIMULATOR, n=200, y_obs=np.array([0.3, -0.3]))
    levels = [
        next(found.level for found in check.outcomes if found.quantity == "y_obs") for check in (far, near)
    ]
    assert levels == ["do not trust", "trust"]


def test_what_is_not_a_posterior_or_a_simulator_is_refused(gaussian_posterior: sf.Posterior) -> None:
    for wrong, words in (
        (("p.safetensors", SIMULATOR), r"sf.load\('p.safetensors'\)"),
        ((gaussian_posterior, gaussian_posterior), "Posterior"),
        ((gaussian_posterior, make_gaussian(3)), "gaussian"),
    ):
        with pytest.raises(SettingsError, match=words):
            sf.check(*wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="n .*'200'"):
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
    (note,) = lost.left_out
    assert (note.kind, note.values) == ("likelihood untested", {"reason": "RuntimeError: no convergence"})
    assert note in lost.text
    assert "log-likelihood" not in lost.quantities["quantity"].tolist()
    none = sf.check(posterior, with_likelihood(wrong), n=100, seed=1, n_likelihood=0)
    assert none.left_out == ()
    with pytest.raises(SettingsError, match="n_likelihood .*100.* 20"):
        sf.check(posterior, with_likelihood(right), n=100, n_likelihood=20)
