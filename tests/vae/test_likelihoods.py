"""Each likelihood is the distribution it is named after, refuses what it cannot give, and starts where the
data are.
"""

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
def test_the_density_is_that_of_scipy(likelihood: Likelihood, free: np.ndarray) -> None:
    x, out = drawn(likelihood, free)
    out = out + 0.5 * stream(1, "outputs").standard_normal(out.shape)
    found = likelihood.log_prob(*(torch.from_numpy(part) for part in (x, out, free))).numpy()
    assert np.allclose(found, exact(likelihood, x, out, free), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("likelihood", "free"), CASES)
def test_draws_have_the_stated_mean(likelihood: Likelihood, free: np.ndarray) -> None:
    """|z| < 4.5 in each of 3 elements: a false alarm in 1 of 50,000."""
    x, out = drawn(likelihood, free, 4000)
    check_values(likelihood, x)
    mean = likelihood.mean(torch.from_numpy(out[:1]), torch.from_numpy(free)).numpy()[0]
    if isinstance(likelihood, vae.Categorical):
        share = softmax(out[0], axis=0)
        seen = np.stack([(x == k).mean(axis=0) for k in range(4)])
        assert (np.abs(seen - share) < 4.5 * np.sqrt(share * (1 - share) / len(x))).all()
        assert np.array_equal(mean, share.argmax(axis=0))
    else:
        assert (np.abs(x.mean(axis=0) - mean) < 4.5 * x.std(axis=0) / np.sqrt(len(x))).all()


@pytest.mark.parametrize(("likelihood", "free"), CASES)
def test_the_start_is_as_likely_as_independent_elements_can_be(
    likelihood: Likelihood, free: np.ndarray
) -> None:
    """The best constant outputs beat all others: small moves from the start make the data less probable, up
    to the floor of shares.
    """
    x, _ = drawn(likelihood, free, 4000)
    centre, scale, start = likelihood.start(x)
    assert centre.shape == scale.shape == (likelihood.heads, M)
    assert len(start) == likelihood.free(M)

    def at(out: np.ndarray) -> float:
        return float(
            likelihood.log_prob(
                *(torch.from_numpy(part) for part in (x, out[None].repeat(len(x), axis=0), start))
            ).mean()
        )

    rng = stream(2, "moves")
    assert all(
        at(centre + 0.1 * scale * rng.choice([-1, 1], centre.shape)) < at(centre) + 1e-3 for _ in range(10)
    )


@pytest.mark.parametrize(("likelihood", "free"), CASES)
def test_a_record_survives_json(likelihood: Likelihood, free: np.ndarray) -> None:
    assert from_json(to_json(likelihood)) == likelihood


def test_names_and_what_is_left_open_are_filled_in_from_data() -> None:
    x = np.array([[0.0, 3.0], [1.0, 2.0]])
    assert likelihood_of("binomial").completed(x) == vae.Binomial(3)
    assert likelihood_of("categorical").completed(x) == vae.Categorical(4)
    assert likelihood_of("gaussian") == vae.Gaussian(sd="learned")
    assert vae.Binomial(16).completed(x) == vae.Binomial(16)


@pytest.mark.parametrize(
    ("likelihood", "value", "words"),
    [
        (vae.Bernoulli(), 0.5, "0 or 1 .*; got 0.5 in row 1, element 0"),
        (vae.Binomial(16), 17.0, "from 0 to 16.*; got 17"),
        (vae.Poisson(), -1.0, "from 0 to 485165195; got -1"),
        (vae.Poisson(), 1e9, "from 0 to 485165195; got 1e"),
        (vae.Categorical(4), 4.0, "a class from 0 to 3; got 4"),
    ],
)
def test_data_that_it_cannot_give_are_refused_with_their_place(
    likelihood: Likelihood, value: float, words: str
) -> None:
    with pytest.raises(ObservationError, match=words):
        check_values(likelihood, np.array([[1.0, 1.0], [value, 1.0]]))


def test_bad_settings_are_refused_in_words() -> None:
    with pytest.raises(
        SettingsError, match="bernoulli, gaussian, poisson, categorical, binomial.* got 'normal'"
    ):
        likelihood_of("normal")
    with pytest.raises(SettingsError, match="sd must be a positive number.* got -1"):
        vae.Gaussian(sd=-1)
    with pytest.raises(SettingsError, match="classes must be an integer of at least 2.* got 1"):
        vae.Categorical(1)
    with pytest.raises(SettingsError, match="trials must be .* got True"):
        vae.Binomial(True)
