"""What the autoencoder and the densities get right where the truth is known, and what they reach on digits.

    python -m tests.benchmarks.vae [gaps] [ppca] [likelihoods] [objectives] [densities] [digits] ... [--seeds
    3] [--steps 2000]

Each line gives a measurement, the bar that it is held to, and whether it passes. Those where the truth is
known take minutes on one core and are what runs when none is named. `digits` takes a minute a seed for
diagonal encoders with and without warm-up and one for an IAF, `frozen` ten, `hierarchical` two a seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor, nn

import sbi_flows as sf
from sbi_flows import flows, vae
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.loop import train
from sbi_flows.training.rows import TensorRows

from ..vae import toys

F = NDArray[np.float64]


def report(what: str, value: float, bar: float, at_least: bool = False, note: str = "") -> None:
    passes = value >= bar if at_least else value <= bar
    relation = ">=" if at_least else "<="
    print(
        f"{what:<58} {value:9.4f}  {relation} {bar:<7.4g} {'pass' if passes else 'FAIL'}  {note}", flush=True
    )


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
    """A linear decoder, learned: its log-likelihood in closed form beside the maximum, which is probabilistic
    PCA.
    """
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
        report(f"{load.__name__[5:]}, {latent} latent: nats a datum below pPCA", best - found, 0.01)


def likelihoods(options: argparse.Namespace) -> None:
    """One latent number, six elements: importance sampling beside quadrature, and the learned model beside
    the generator.
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
    """z ~ N(0, I_2), x = A z + 0.5 e in R^3: q(z | x) as the same encoder, by maximum likelihood on pairs and
    by the bound; exact KLs.
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


def densities(options: argparse.Namespace) -> None:
    """Densities with a known entropy, 5,000 training points: KL(exact, fitted) on 20,000 fresh ones, and the
    mass on a grid.
    """
    angles = 2 * np.pi * np.arange(8) / 8
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def sine(n: int, rng: np.random.Generator) -> F:
        first = 1.5 * rng.standard_normal(n)
        return np.stack([first, np.sin(2 * first) + 0.3 * rng.standard_normal(n)], axis=1)

    def log_sine(x: F) -> F:
        standard = np.stack([x[:, 0] / 1.5, (x[:, 1] - np.sin(2 * x[:, 0])) / 0.3])
        return np.asarray(-0.5 * np.square(standard).sum(axis=0) - np.log(2 * np.pi * 1.5 * 0.3))

    def eight(n: int, rng: np.random.Generator) -> F:
        return np.asarray(centres[rng.integers(0, 8, n)] + 0.2 * rng.standard_normal((n, 2)))

    def log_eight(x: F) -> F:
        squares = np.square((x[:, None] - centres) / 0.2).sum(axis=2)
        return np.asarray(logsumexp(-0.5 * squares, axis=1) - np.log(8 * 2 * np.pi * 0.2**2))

    for name, draw, log_p, bar in (
        ("sine", sine, log_sine, 0.05),
        ("eight Gaussians", eight, log_eight, 0.08),
    ):
        for kind in (
            ("maf", "coupling", "nsf", "spline_coupling") if name == "sine" else ("nsf", "spline_coupling")
        ):
            began = time.process_time()
            density = flows.fit_density(draw(5000, stream(0, name)), kind)
            x = draw(20_000, stream(1, name))
            axis = np.linspace(-9, 9, 901)
            grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
            mass = np.exp(density.log_prob(grid)).sum() * (axis[1] - axis[0]) ** 2
            note = f"mass {mass:.5f}, {time.process_time() - began:.0f} s"
            report(f"{name}, {kind}: KL", float((log_p(x) - density.log_prob(x)).mean()), bar, note=note)


def binary_digits() -> tuple[F, F, F]:
    """1257 training, 180 validation and 360 test digits of 64 pixels, 1 where ink is at least 8 of 16."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    rest, test, _, _ = train_test_split((x >= 8).astype(float), y, test_size=360, random_state=0, stratify=y)
    training, valid = train_test_split(rest, test_size=180, random_state=0)
    return training, valid, test


def digits(options: argparse.Namespace) -> None:
    """8 x 8 digits, binarised: one schedule for every encoder; the settings were chosen on the validation
    rows.
    """
    training, valid, test = binary_digits()
    for encoder in options.encoders:
        for seed in range(options.seeds):
            for warmup in (100, 0) if encoder == "diagonal" else (100,):
                began = time.process_time()
                model = vae.VAE(event_shape=64, latent=8, likelihood="bernoulli", encoder=encoder, seed=seed)
                model.fit(training, valid, epochs=300, warmup=warmup)
                for refined in ("", ", refined") if warmup else ("",):
                    if refined:
                        model.refine_encoder(training, valid)
                    seconds = time.process_time() - began
                    bound, evidence = model.elbo(test).bound.mean(), model.log_evidence(test, 500)
                    figures = (
                        f"-ELBO {-bound:.3f}  NLL {-evidence.log_evidence.mean():.3f}  active "
                        f"{model.active_units(test).sum()}/8"
                    )
                    heavy = f"k-hat > 0.7 in {(evidence.k_hat > 0.7).mean():.0%}"
                    print(
                        f"digits, {encoder}, warm-up {warmup}, seed {seed}{refined}: {figures}  {heavy}  "
                        f"{seconds:.0f} s",
                        flush=True,
                    )

    if options.peers:
        beside_pythae(options, training, valid, test)


def beside_pythae(options: argparse.Namespace, training: F, valid: F, test: F) -> None:
    """pythae's autoencoders on the same digits, in the Python that has it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "in.npz", training=training, valid=valid, test=test)
        (folder / "options.json").write_text(json.dumps({"latent": 8, "epochs": 300, "seeds": options.seeds}))
        script = Path(__file__).with_name("peer_pythae.py")
        subprocess.run(
            [options.peers, str(script), name],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for which, found in json.loads((folder / "facts.json").read_text()).items():
            print(
                f"digits, pythae's {which}: -ELBO {found['-ELBO']:.3f}  NLL {found['NLL']:.3f}  "
                f"{found['seconds']:.0f} s",
                flush=True,
            )


def frozen(options: argparse.Namespace) -> None:
    """Encoders for one decoder of digits, trained on digits that it makes: what each misses of log p, by its
    own 2,000 draws.

    A decoder that was trained with a diagonal encoder makes posteriors that suit it, so there is one of each
    kind.
    """
    for maker in ("diagonal", "iaf"):
        frozen_decoder(maker, options)


def frozen_decoder(maker: str, options: argparse.Namespace) -> None:
    """For the decoder that was trained with the encoder `maker`."""
    training, valid, _ = binary_digits()
    model = vae.VAE(event_shape=64, latent=8, likelihood="bernoulli", encoder=maker, seed=0)
    model.fit(training, valid, epochs=300, warmup=100)
    x, test = model.sample(64_000, seed=1), model.sample(400, seed=2)
    found = {}
    for encoder in ("diagonal", "full_rank", "iaf", "planar"):
        other = vae.VAE(
            event_shape=64,
            latent=8,
            likelihood="bernoulli",
            encoder=encoder,
            decoder=model.module.decoder,
            seed=1,
        )
        settings = sf.TrainSettings(batch_size=128, learning_rate=2e-3, patience=100)
        other.fit(
            x[1000:], x[:1000], epochs=2 * options.steps // 490, frozen="decoder", train_settings=settings
        )
        log_weights = other.log_weights(test, 2000, seed=3)
        found[encoder] = float(
            (logsumexp(log_weights, axis=1) - np.log(2000) - log_weights.mean(axis=1)).mean()
        )
        print(f"decoder of {maker}, frozen; {encoder}: gap {found[encoder]:.3f}", flush=True)
    report(
        f"decoder of {maker}: gap of diagonal - gap of full-rank",
        found["diagonal"] - found["full_rank"],
        0.5,
        at_least=True,
    )
    report(
        f"decoder of {maker}: least gap of a flow - gap of full-rank",
        min(found["iaf"], found["planar"]) - found["full_rank"],
        0.02,
    )


def hierarchical(options: argparse.Namespace) -> None:
    """Layers of 8 and 4 on the same digits, with and without warm-up."""
    training, valid, test = binary_digits()
    for seed in range(options.seeds):
        active = []
        for warmup in (100, 0):
            model = vae.HierarchicalVAE(event_shape=64, latent=(8, 4), likelihood="bernoulli", seed=seed)
            model.fit(training, valid, epochs=300, warmup=warmup)
            bound, nll = model.elbo(test).bound.mean(), -model.log_evidence(test, 500).log_evidence.mean()
            active.append(int(model.active_units_above(test)[0].sum()))
            figures = f"-ELBO {-bound:.3f}  NLL {nll:.3f}  top units active {active[-1]}/4"
            print(f"hierarchical, warm-up {warmup}, seed {seed}: {figures}", flush=True)
        report(
            f"hierarchical: top units that the warm-up wakes, seed {seed}",
            active[0] - active[1],
            2,
            at_least=True,
        )


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    section.__name__: section
    for section in (gaps, ppca, likelihoods, objectives, densities, digits, frozen, hierarchical)
}
KNOWN = ("gaps", "ppca", "likelihoods", "objectives", "densities")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--encoders", nargs="+", default=["diagonal", "full_rank", "planar", "iaf"])
    parser.add_argument("--peers", help="a Python with pythae, for digits")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"sections are {', '.join(SECTIONS)}; got {', '.join(sorted(unknown))}.")
    for name in options.sections or [name for name in SECTIONS if name in KNOWN]:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
