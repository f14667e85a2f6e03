"""An autoencoder's encoder as summary network: its weights and scaling are used as they are, saved, and
refused where they cannot fit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import uniform

import sbi_flows as sf
from sbi_flows import vae
from sbi_flows.errors import BankMismatchError, SettingsError
from sbi_flows.nets.encoder import EncodedSummary
from sbi_flows.nets.joined import AddedSummaries

from ..conftest import QUICK

TRAIN = sf.TrainSettings(epochs=4, batch_size=64)


def autoencoder(simulator: sf.Simulator, seed: int = 0, **options: object) -> vae.VAE:
    model = vae.VAE(event_shape=simulator.event_shape, latent=2, likelihood="gaussian", seed=seed, **options)  # type: ignore[arg-type]
    model.fit(sf.simulate(simulator, 500, seed=9).y, epochs=3)
    return model


@pytest.fixture(scope="module")
def model(bounded: sf.Simulator) -> vae.VAE:
    return autoencoder(bounded)


@pytest.mark.parametrize("members", [1, 2])
def test_the_encoder_is_used_as_it_is(
    bounded: sf.Simulator, model: vae.VAE, members: int, tmp_path: Path
) -> None:
    settings = sf.FitSettings(width=16, layers=2, summary_features=8, members=members, train=TRAIN)
    said: list[str] = []
    posterior = sf.fit(bounded, n_simulations=1000, seed=3, summary=model, settings=settings, say=said.append)
    parts = [part for part in posterior.estimator.modules() if isinstance(part, EncodedSummary)]
    assert len(parts) == members
    encoder = model.module.encoder
    y = torch.from_numpy(sf.simulate(bounded, 20, seed=4).y)
    for part in parts:
        with torch.no_grad():
            given = part.encoder.double()(torch.from_numpy(posterior.scaler(y.numpy())))
            torch.testing.assert_close(given, encoder.context(y), rtol=1e-5, atol=1e-5)
            part.encoder.float()
    assert any("encoder that was passed" in text for text in said)
    assert posterior.settings.summary == "encoder"
    posterior.save(tmp_path / "p.safetensors")
    again = sf.load(tmp_path / "p.safetensors")
    observed = y[0].numpy()
    assert np.array_equal(again.sample(observed, 100).to_numpy(), posterior.sample(observed, 100).to_numpy())
    verdict = posterior.sample(observed, 10).verdict
    assert (verdict.of_data or verdict.level) == "trust"


def test_counts_are_seen_as_the_encoder_saw_them() -> None:
    rng = np.random.default_rng(0)

    @sf.simulator(sf.Prior(rate=uniform(1, 9)), event_shape=(2, 3))
    def counts(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return rng.poisson(theta["rate"][:, None, None], (len(theta["rate"]), 2, 3))

    model = vae.VAE(event_shape=(2, 3), latent=2, likelihood="poisson")
    model.fit(rng.poisson(5, (300, 2, 3)), epochs=2)
    posterior = sf.fit(counts, n_simulations=500, summary=model, settings=QUICK, say=None)
    y = rng.poisson(5, (10, 2, 3)).astype(float)
    encoder = model.module.encoder
    with torch.no_grad():
        seen = (encoder.seen(torch.from_numpy(y.reshape(10, 6))) - encoder.centre) / encoder.scale
    np.testing.assert_allclose(posterior.scaler(y), seen.numpy(), rtol=1e-12, atol=1e-12)


def test_declared_summaries_join_it(bounded: sf.Simulator, model: vae.VAE, tmp_path: Path) -> None:
    products = sf.simulator(bounded.prior, event_shape=(3,), summaries=lambda y: y * y[:, ::-1])(
        bounded.function
    )
    posterior = sf.fit(products, n_simulations=500, seed=3, summary=model, settings=QUICK, say=None)
    (part,) = (part for part in posterior.estimator.modules() if isinstance(part, AddedSummaries))
    assert isinstance(part.network, EncodedSummary)
    posterior.save(tmp_path / "p.safetensors")
    loaded = sf.load(tmp_path / "p.safetensors", simulator=products)
    y = sf.simulate(products, 5, seed=4).y
    assert np.array_equal(loaded.sample(y, 20).to_numpy(), posterior.sample(y, 20).to_numpy())


def test_a_fit_by_the_clock_takes_it_too(bounded: sf.Simulator, model: vae.VAE) -> None:
    posterior = sf.fit(bounded, minutes=0.05, seed=3, summary=model, say=None)
    assert all(isinstance(member.summary, EncodedSummary) for member in posterior.estimator.members)


def test_data_unlike_those_of_the_autoencoder_are_told(bounded: sf.Simulator) -> None:
    small = vae.VAE(event_shape=3, latent=2, likelihood="gaussian")
    small.fit(1e-3 * sf.simulate(bounded, 500, seed=9).y, epochs=2)
    posterior = sf.fit(bounded, n_simulations=500, summary=small, settings=QUICK, say=None)
    (note,) = (note for note in posterior.notes if note.kind == "encoder scaling")
    assert not note.values["alike"]


def test_a_checkpoint_is_bound_to_its_encoder(bounded: sf.Simulator, model: vae.VAE, tmp_path: Path) -> None:
    path = tmp_path / "c"
    sf.fit(bounded, n_simulations=500, summary=model, settings=QUICK, checkpoint=path, say=None)
    other = autoencoder(bounded, seed=1)
    other.module.encoder.centre.copy_(model.module.encoder.centre)
    with pytest.raises(BankMismatchError):
        sf.fit(bounded, n_simulations=500, summary=other, settings=QUICK, checkpoint=path, say=None)


def test_what_cannot_be_a_summary_is_refused(bounded: sf.Simulator, model: vae.VAE) -> None:
    def refused(words: str, **options: object) -> None:
        with pytest.raises(SettingsError, match=words):
            sf.fit(bounded, n_simulations=500, say=None, **options)  # type: ignore[arg-type]

    refused("must be a torch module, or an autoencoder", summary="vae")
    refused("has not been trained", summary=vae.VAE(event_shape=3, latent=2, likelihood="gaussian"))
    wrong = vae.VAE(event_shape=4, latent=2, likelihood="gaussian")
    wrong.fit(np.random.default_rng(0).standard_normal((100, 4)), epochs=1)
    refused(r"shape \(4,\)", summary=wrong)
    refused("two summary networks", summary=model, settings=sf.FitSettings(summary="vector"))
    refused("needs the autoencoder itself", settings=sf.FitSettings(summary="encoder"))
    with pytest.raises(SettingsError, match="An autoencoder goes in"):
        sf.FitSettings(summary=model)  # type: ignore[arg-type]
