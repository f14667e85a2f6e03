"""What autoencoders reach on 8 x 8 digits: sections of `tests.benchmarks.vae`."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

import sbi_flows as sf
from sbi_flows import vae

from .sections import report

F = NDArray[np.float64]


def binary_digits() -> tuple[F, F, F]:
    """1257 training, 180 validation and 360 test digits of 64 pixels: 1 where ink is at least 8 of 16."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    rest, test, _, _ = train_test_split((x >= 8).astype(float), y, test_size=360, random_state=0, stratify=y)
    training, valid = train_test_split(rest, test_size=180, random_state=0)
    return training, valid, test


def digits(options: argparse.Namespace) -> None:
    """Binarised digits, one schedule for every encoder; the settings were chosen on the validation rows."""
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
        pythae_digits(options, training, valid, test)


def pythae_digits(options: argparse.Namespace, training: F, valid: F, test: F) -> None:
    """pythae's autoencoders on the same digits, run by a Python that has pythae."""
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
    """Encoders for a fixed decoder of digits, trained on digits that it makes: log p - bound (2,000 draws).

    The posteriors of a decoder suit the encoder that it was trained with, so there are two decoders.
    """
    for maker in ("diagonal", "iaf"):
        frozen_decoder(maker, options)


def frozen_decoder(maker: str, options: argparse.Namespace) -> None:
    """`frozen` for the decoder that was trained with the encoder `maker`."""
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
