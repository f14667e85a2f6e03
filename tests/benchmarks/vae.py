"""What the autoencoder and the densities get right where the truth is known, and what they reach on digits.

    python -m tests.benchmarks.vae [gaps] [ppca] [likelihoods] [objectives] [densities] [digits] [frozen]
                                   [hierarchical] [--seeds 3] [--steps 2000]

Each line gives a measurement, the bar that it is held to, and whether it passes. Without names, the sections
run whose truth is known; they take minutes on one core. `digits` takes a minute per seed for diagonal
encoders with and without warm-up and one for an IAF, `frozen` ten minutes, `hierarchical` two per seed.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor, nn

import sbi_flows as sf
from sbi_flows import vae
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.loop import train
from sbi_flows.training.rows import TensorRows

from ..vae import toys
from .densities import densities
from .sections import parser_of, report, run
from .vae_digits import digits, frozen, hierarchical

F = NDArray[np.float64]


def linear(inputs: int, outputs: int, name: str) -> nn.Linear:
    with torch_scope(stream(0, name)):
        return nn.Linear(inputs, outputs)


def gaps(options: argparse.Namespace) -> None:
    """log p(x) - bound with the decoder frozen at the truth."""
    toy, least = toys.linear_gaussian()
    for encoder, bar in (
        ("diagonal", least + 0.03),
        ("full_rank", 0.01),
        ("planar", 0.05),
        ("iaf", 0.05),
        ("spline_coupling", 0.05),
    ):
        gap, error = toy.gaps(encoder, steps=options.steps)
        report(
            f"linear-Gaussian, {encoder}: gap",
            gap,
            bar,
            note=f"+- {error:.4f}" + (f", closed form {least:.4f}" * (bar > least)),
        )
    banana = toys.banana()
    diagonal, error = banana.gaps("diagonal", steps=options.steps)
    print(f"banana, diagonal: gap {diagonal:.4f} +- {error:.4f}")
    for encoder, bar in (
        ("full_rank", 0.7 * diagonal),
        ("planar", 0.15),
        ("iaf", 0.15),
        ("spline_coupling", 0.15),
    ):
        gap, error = banana.gaps(encoder, steps=options.steps)
        report(f"banana, {encoder}: gap", gap, bar, note=f"+- {error:.4f}")
    product = toys.product()
    for encoder, bar in (
        ("diagonal", 0.673),
        ("full_rank", 0.673),
        ("planar", 0.35),
        ("iaf", 0.35),
        ("spline_coupling", 0.35),
    ):
        gap, error = product.gaps(encoder, steps=options.steps)
        gaussian = encoder in ("diagonal", "full_rank")
        floor = (
            f", the best of its kind {toys.least_gap_of_product(full=encoder == 'full_rank'):.4f}"
            if gaussian
            else ""
        )
        report(f"prod, {encoder}: gap", gap, bar, at_least=bar > 0.6, note=f"+- {error:.4f}{floor}")


def ppca(options: argparse.Namespace) -> None:
    """A learned linear decoder: its exact log-likelihood, compared with the maximum (probabilistic PCA)."""
    from sklearn.datasets import load_breast_cancer, load_iris, load_wine
    from sklearn.decomposition import PCA

    for load, latent in ((load_iris, 2), (load_wine, 3), (load_breast_cancer, 5)):
        x = load().data
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        m = x.shape[1]
        net = linear(latent, m, "linear decoder")
        model = vae.VAE(event_shape=m, latent=latent, likelihood="gaussian", encoder="full_rank", decoder=net)
        settings = sf.TrainSettings(batch_size=128, learning_rate=1e-2, patience=10_000, weight_decay=0.0)
        model.fit(x, x, epochs=3000 * 128 // len(x), draws=4, train_settings=settings)
        weight, bias = net.weight.detach().numpy(), net.bias.detach().numpy()
        covariance = weight @ weight.T + np.exp(2 * float(model.module.decoder.free.detach())) * np.eye(m)
        quadratic = np.einsum("ni,ij,nj->n", x - bias, np.linalg.inv(covariance), x - bias)
        found = -0.5 * (quadratic.mean() + np.linalg.slogdet(2 * np.pi * covariance).logabsdet)
        best = PCA(latent).fit(x).score(x)
        report(f"{load.__name__[5:]}, {latent} latent: nats per datum below pPCA", best - found, 0.01)


def likelihoods(options: argparse.Namespace) -> None:
    """One latent number, six elements: importance sampling compared with quadrature, and the learned model
    with the generator.
    """
    grid = np.linspace(-8, 8, 1001)

    def exact(model: vae.VAE, x: F) -> F:
        log_joint = (
            np.stack([model.log_likelihood(row, grid[:, None]) for row in x])
            - 0.5 * grid**2
            - 0.5 * np.log(2 * np.pi)
        )
        return np.asarray(logsumexp(log_joint, axis=1) + np.log(grid[1] - grid[0]))

    for likelihood in (
        vae.Bernoulli(),
        vae.Gaussian(sd=0.5),
        vae.Categorical(3),
        vae.Poisson(),
        vae.Binomial(5),
    ):
        generator, net = (linear(1, 6 * likelihood.heads, name) for name in ("generator", "learned"))
        with torch.no_grad():
            generator.weight.copy_(
                torch.from_numpy(stream(1, "generator").standard_normal(generator.weight.shape))
            )
        truth = vae.VAE(event_shape=6, latent=1, likelihood=likelihood, decoder=generator)
        x, test = truth.sample(10_000, seed=1), truth.sample(1000, seed=2)
        sizes = vae.VAESettings(width=64, summary_features=32)
        model = vae.VAE(
            event_shape=6, latent=1, likelihood=likelihood, encoder="full_rank", decoder=net, settings=sizes
        )
        settings = sf.TrainSettings(batch_size=128, learning_rate=4e-3, patience=1000, weight_decay=0.0)
        # The rates of the Poisson span several powers of ten, and its sharp posteriors take longer to learn.
        steps = (3 if likelihood.name == "poisson" else 1) * options.steps
        model.fit(x[1000:], x[:1000], epochs=steps // 70, train_settings=settings)
        by_quadrature = exact(model, test)
        sampled = model.log_evidence(test, 1000).log_evidence
        report(
            f"{likelihood.name}: |IWAE-1000 - quadrature|",
            abs(float((sampled - by_quadrature).mean())),
            0.002,
        )
        report(
            f"{likelihood.name}: generator - learned, log p of test",
            float((exact(truth, test) - by_quadrature).mean()),
            0.05,
        )


def objectives(options: argparse.Namespace) -> None:
    """z ~ N(0, I_2), x = A z + 0.5 e in R^3: one encoder q(z | x), by maximum likelihood on pairs and by the
    bound; exact KLs.
    """
    rng = stream(0, "two objectives")
    a, sd = rng.standard_normal((3, 2)), 0.5
    net = nn.utils.skip_init(nn.Linear, 2, 3)
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(a))
        net.bias.zero_()
    covariance = np.linalg.inv(np.eye(2) + a.T @ a / sd**2)
    factor = np.linalg.cholesky(covariance)
    settings = sf.TrainSettings(batch_size=128, learning_rate=4e-3, patience=1000)
    sizes = vae.VAESettings(width=64, summary_features=32)

    def made() -> tuple[vae.VAE, F, F]:
        model = vae.VAE(
            event_shape=3,
            latent=2,
            likelihood=vae.Gaussian(sd=sd),
            encoder="spline_coupling",
            decoder=net,
            settings=sizes,
        )
        z = rng.standard_normal((20_000, 2))
        return model, z, z @ a.T + sd * rng.standard_normal((20_000, 3))

    def measured(model: vae.VAE, name: str) -> None:
        encoder = model.module.encoder
        x = model.sample(500, seed=3)
        mean = x @ a @ covariance / sd**2
        draws = mean[:, None] + rng.standard_normal((500, 200, 2)) @ factor.T
        with torch.no_grad():
            context = encoder.context(torch.from_numpy(x))
            log_q = encoder.flow.log_prob(torch.from_numpy(draws), context[:, None]).numpy()
            own, own_log_q = encoder.draw(context, torch.from_numpy(rng.standard_normal((500, 200, 2))))

        def log_p(z: F) -> F:
            standard = np.linalg.solve(factor, (z - mean[:, None]).reshape(-1, 2).T)
            density = (
                -0.5 * np.square(standard).sum(axis=0) - np.log(2 * np.pi) - np.log(np.diag(factor)).sum()
            )
            return np.asarray(density.reshape(z.shape[:2]))

        report(f"{name}: KL(exact, q)", float((log_p(draws) - log_q).mean()), 0.08)
        report(f"{name}: KL(q, exact)", float((own_log_q.numpy() - log_p(own.numpy())).mean()), 0.08)

    model, _, x = made()
    model.fit(x, epochs=options.steps // 140, frozen="decoder", train_settings=settings)
    measured(model, "by the bound (AEVB)")
    model, z, x = made()
    encoder = model.module.encoder.float()

    def negative_log_density(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        value, events = batch
        return -module.flow.log_prob(value, module.context(events))

    pairs = TensorRows(
        [torch.from_numpy(part.astype(np.float32)) for part in (z, x)],
        replaced(settings, options.steps // 140),
        0,
    )
    train(encoder, negative_log_density, pairs)
    encoder.double()
    measured(model, "by likelihood of pairs (NPE)")


def replaced(settings: sf.TrainSettings, epochs: int) -> sf.TrainSettings:
    return sf.TrainSettings(
        epochs=epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        patience=settings.patience,
    )


KNOWN = (gaps, ppca, likelihoods, objectives, densities)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--encoders", nargs="+", default=["diagonal", "full_rank", "planar", "iaf"])
    parser.add_argument("--peers", help="a Python with pythae, for digits")
    run(parser, (*KNOWN, digits, frozen, hierarchical), KNOWN)
