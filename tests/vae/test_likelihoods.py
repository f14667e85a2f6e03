"""Each likelihood agrees with scipy, refuses data that it cannot produce, and starts at the data."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.special import expit, softmax

from sbi_flows import vae
from sbi_flows.errors import ObservationError, SettingsError
from sbi_flows.rng import stream
from sbi_flows.vae.likelihoods import Likelihood, check_values, from_json, likelihood_of, to_json

M, ROWS = 3, 200
LOG_SD = np.array([-0.5, 0.1, 0.4])


def exact(likelihood: Likelihood, x: np.ndarray, out: np.ndarray, free: np.ndarray) -> np.ndarray:
    """log p by scipy, (rows,)."""
    if isinstance(likelihood, vae.Bernoulli):
        each = scipy.stats.bernoulli(expit(out[:, 0])).logpmf(x)
    elif isinstance(likelihood, vae.Binomial):
        each = scipy.stats.binom(16, expit(out[:, 0])).logpmf(x)
    elif isinstance(likelihood, vae.Poisson):
        each = scipy.stats.poisson(np.exp(out[:, 0])).logpmf(x)
    elif isinstance(likelihood, vae.Categorical):
        each = np.log(np.take_along_axis(softmax(out, axis=1), x[:, None].astype(int), axis=1)[:, 0])
    else:
        sd = {"network": np.exp(out[:, -1]), "learned": np.exp(free), "per_feature": np.exp(free)}.get(
            likelihood.sd, likelihood.sd
        )
        each = scipy.stats.norm(out[:, 0], sd).logpdf(x)
    return each.sum(axis=1)


CASES = [
    (vae.Bernoulli(), np.zeros(0)),
    (vae.Binomial(16), np.zeros(0)),
    (vae.Poisson(), np.zeros(0)),
    (vae.Categorical(4), np.zeros(0)),
    (vae.Gaussian(sd=0.7), np.zeros(0)),
    (vae.Gaussian(sd="learned"), LOG_SD[:1]),
    (vae.Gaussian(sd="per_feature"), LOG_SD),
    (vae.Gaussian(sd="network"), np.zeros(0)),
]


def drawn(likelihood: Likelihood, free: np.ndarray, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(0, "outputs")
    out = np.broadcast_to(rng.standard_normal((1, likelihood.heads, M)), (rows, likelihood.heads, M)).copy()
    return likelihood.sample(out, free, rng), out


@pytest.mark.parametrize(("likelihood", "free"), CASES)
def test_the_density_agrees_with_scipy(likelihood: Likelihood, free: np.ndarray) -> None:
    x, out = drawn(likelihood, free)
    out = out + 0.5 * stream(1, "outputs").standard_normal(out.shape)
    found = likelihood.log_prob(*(torch.from_numpy(part) for part in (x, out, free))).numpy()
    assert np.allclose(found, exact(likelihood, x, out, free), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("likelihood", "free"), CASES)
def test_draws_have_the_stated_mean(likelihood: Likelihood, free: np.ndarray) -> None:
    """|z| < 4.5 in each of 3 elements, one false alarm in 50,000."""
    x, out = drawn(likelihood, free, 4000)
    check_values(likelihood, x)
    mean = likelihood.mean(torch.from_numpy(out[:1]), torch.from_numpy(free)).numpy()[0]
    if isinstance(likelihood, vae.Categorical):
        p = softmax(out[0], axis=0)
        seen = np.stack([(x == k).mean(axis=0) for k in range(4)])
        assert (np.abs(seen - p) < 4.5 * np.sqrt(p * (1 - p) / len(x))).all()
        assert np.array_equal(mean, p.argmax(axis=0))
    else:
        assert (np.abs(x.mean(axis=0) - mean) < 4.5 * x.std(axis=0) / np.sqrt(len(x))).all()


@pytest.mark.parametrize(("likelihood", "free"), CASES)
def test_the_start_is_the_best_constant_output(likelihood: Likelihood, free: np.ndarray) -> None:
    """Small moves from the start make the data less probable, up to the floor of probabilities."""
    x, _ = drawn(likelihood, free, 4000)
    centre, scale, start = likelihood.start(x)
    assert centre.shape == scale.shape == (likelihood.heads, M)
    assert len(start) == likelihood.free(M)

    def at(out: np.ndarray) -> float:
        parts = (x, out[None].repeat(len(x), axis=0), start)
        return float(likelihood.log_prob(*(torch.from_numpy(part) for part in parts)).mean())

    rng = stream(2, "moves")
    assert all(
        at(centre + 0.1 * scale * rng.choice([-1, 1], centre.shape)) < at(centre) + 1e-3 for _ in range(10)
    )


@pytest.mark.parametrize(("likelihood", "free"), CASES)
def test_a_record_survives_json(likelihood: Likelihood, free: np.ndarray) -> None:
    assert from_json(to_json(likelihood)) == likelihood


def test_what_is_left_open_is_taken_from_data() -> None:
    x = np.array([[0.0, 3.0], [1.0, 2.0]])
    assert likelihood_of("binomial").completed(x) == vae.Binomial(3)
    assert likelihood_of("categorical").completed(x) == vae.Categorical(4)
    assert likelihood_of("gaussian") == vae.Gaussian(sd="learned")
    assert vae.Binomial(16).completed(x) == vae.Binomial(16)


@pytest.mark.parametrize(
    ("likelihood", "value", "told"),
    [
        (vae.Bernoulli(), 0.5, "0 or 1 .*; got 0.5 in row 1, element 0"),
        (vae.Binomial(16), 17.0, "from 0 to 16.*; got 17"),
        (vae.Poisson(), -1.0, "from 0 to 485165195; got -1"),
        (vae.Poisson(), 1e9, "from 0 to 485165195; got 1e"),
        (vae.Categorical(4), 4.0, "from 0 to 3; got 4"),
    ],
)
def test_data_that_it_cannot_produce_are_refused_by_row_and_element(
    likelihood: Likelihood, value: float, told: str
) -> None:
    with pytest.raises(ObservationError, match=told):
        check_values(likelihood, np.array([[1.0, 1.0], [value, 1.0]]))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="gaussian.* got 'normal'"):
        likelihood_of("normal")
    with pytest.raises(SettingsError, match="sd .* -1"):
        vae.Gaussian(sd=-1)
    with pytest.raises(SettingsError, match="classes .* 2, got 1"):
        vae.Categorical(1)
    with pytest.raises(SettingsError, match="trials .* True"):
        vae.Binomial(True)
