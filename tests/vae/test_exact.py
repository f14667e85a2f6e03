"""Models with known evidence: the gap of the bound is that of theory, and importance sampling is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import nn

from sbi_flows import vae
from sbi_flows.diagnostics.importance import k_hat
from sbi_flows.rng import stream
from sbi_flows.vae.bounds import evidence
from sbi_flows.vae.likelihoods import Likelihood

from . import toys

LIKELIHOODS = [vae.Bernoulli(), vae.Binomial(5), vae.Poisson(), vae.Categorical(3), vae.Gaussian(sd=0.5)]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda likelihood: likelihood.name)
def test_the_evidence_of_every_likelihood_agrees_with_quadrature(likelihood: Likelihood) -> None:
    """One latent number, the prior itself as proposal: |z| < 4.5 per row of 20, one false alarm in 7,000."""
    heads = likelihood.heads
    net = nn.utils.skip_init(nn.Linear, 1, heads * 6)
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(torch.from_numpy(stream(i, "decoder").standard_normal(parameter.shape)))
    model = vae.VAE(event_shape=6, latent=1, likelihood=likelihood, decoder=net)
    x = model.sample(20)
    z = np.linspace(-8, 8, 2001)
    log_joint = (
        np.stack([model.log_likelihood(row, z[:, None]) for row in x]) - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    )
    exact = logsumexp(log_joint, axis=1) + np.log(z[1] - z[0])
    found = model.log_evidence(x, 20_000)
    assert (np.abs(found.log_evidence - exact) < 4.5 * found.standard_error).all()


def test_the_exact_posterior_as_encoder_leaves_no_gap_and_no_error() -> None:
    """x = a z + 0.5 e, z one number: with q set to the posterior by hand, log w = log p(x) per draw."""
    net = nn.utils.skip_init(nn.Linear, 1, 1)
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.bias.zero_()
    sizes = vae.VAESettings(width=4, summary_features=1)
    model = vae.VAE(event_shape=1, latent=1, likelihood=vae.Gaussian(sd=0.5), decoder=net, settings=sizes)
    precision = 1 + 2.0**2 / 0.25
    with torch.no_grad():
        encoder = model.module.encoder
        encoder.summary.linear.weight.fill_(1.0)
        encoder.summary.linear.bias.zero_()
        affine = encoder.flow.layers[0]._linear
        affine.weight.copy_(torch.tensor([[2.0 / 0.25 / precision], [0.0]]))
        raw = 8 * np.arctanh(-0.5 * np.log(precision) / 8)
        affine.bias.copy_(torch.tensor([0.0, raw]))
    x = model.sample(10)
    exact = -0.5 * x[:, 0] ** 2 / 4.25 - 0.5 * np.log(2 * np.pi * 4.25)
    assert np.allclose(model.log_weights(x, 50), exact[:, None], rtol=0, atol=1e-6)
    # The bound averages log p(x | z) over draws while its KL is exact, so it is exact only on average.
    assert np.allclose(model.elbo(x, 20_000).bound, exact, rtol=0, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["diagonal", "full_rank", "iaf"])
def test_the_gap_on_a_linear_gaussian_model_is_the_closed_form(encoder: str) -> None:
    toy, least = toys.linear_gaussian()
    gap, error = toy.gaps(encoder, steps=1000)
    assert gap - (least if encoder == "diagonal" else 0.0) < 0.05 + 4 * error
    assert gap > (least if encoder == "diagonal" else 0.0) - 4 * error


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.2])
def test_k_hat_finds_the_shape_of_a_pareto_tail(k: float) -> None:
    """100 rows of 10,000 weights, 300 in the tail: the mean of k-hat within 0.06 of k shrunk to 1/2."""
    u = stream(0, "tail").random((100, 10_000))
    found = k_hat(np.log((u ** (-k) - 1) / k + 1))
    assert found.mean() == pytest.approx((300 * k + 5) / 310, abs=0.06)


def test_k_hat_of_few_or_equal_weights() -> None:
    assert np.isnan(k_hat(np.zeros((2, 20)))).all()
    assert (k_hat(np.zeros((2, 200))) == -np.inf).all()


def test_evidence_is_the_log_mean_with_its_error() -> None:
    log_weights = np.log(stream(0, "weights").gamma(4.0, 1.0, (5, 1000)))
    found = evidence(log_weights)
    weights = np.exp(log_weights)
    assert np.allclose(found.log_evidence, np.log(weights.mean(axis=1)), rtol=0, atol=1e-12)
    assert np.allclose(
        found.standard_error, weights.std(axis=1, ddof=1) / weights.mean(axis=1) / np.sqrt(1000), rtol=1e-12
    )
    assert np.allclose(
        evidence(log_weights - 3000).log_evidence, found.log_evidence - 3000, rtol=0, atol=1e-9
    )
