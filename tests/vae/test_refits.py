"""Fits in other units, refused or interrupted fits, and checkpoints of another objective."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sbi_flows as sf
from sbi_flows import vae
from sbi_flows.errors import BankMismatchError, ObservationError, SettingsError, TooFewSimulationsError
from sbi_flows.rng import stream

SMALL = vae.VAESettings(width=16, summary_features=8, flow_width=8, layers=2)


def made(likelihood: object = "gaussian", **options: object) -> vae.VAE:
    return vae.VAE(
        **{"event_shape": 4, "latent": 2, "likelihood": likelihood, "seed": 1, "settings": SMALL, **options}
    )  # type: ignore[arg-type]


def numbers(n: int = 200) -> np.ndarray:
    return stream(0, "numbers").standard_normal((n, 4))


def counts(n: int = 200) -> np.ndarray:
    return stream(0, "counts").binomial(16, [0.1, 0.9, 0.5, 0.3], (n, 4)).astype(float)


def bits(n: int = 200) -> np.ndarray:
    return (numbers(n) > 0).astype(float)


@pytest.mark.parametrize("sd", ["learned", "per_feature", "network"])
@pytest.mark.parametrize("value", [0.1, 0.3, 7.1])
def test_a_constant_column_is_constant_despite_rounding(sd: str, value: float) -> None:
    """0.5 is exact in binary, the others are not. The fits differ by rounding only."""
    bounds = []
    for constant in (0.5, value):
        x = numbers()
        x[:, 3] = constant
        model = made(vae.Gaussian(sd=sd))
        model.fit(x, epochs=2)
        bounds.append(model.elbo(x).bound.mean())
    assert bounds[1] == pytest.approx(bounds[0], abs=1e-3)


@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_the_origin_of_the_data_costs_no_precision(offset: float) -> None:
    bounds = []
    for centre in (0.0, offset):
        model = made()
        model.fit(numbers() + centre, epochs=3)
        bounds.append(model.elbo(numbers() + centre).bound.mean())
    assert bounds[1] == pytest.approx(bounds[0], abs=1e-3)


def interrupt(step: int, *_: object) -> None:
    if step == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize("likelihood", ["gaussian", "binomial"])
@pytest.mark.parametrize("how", ["interrupted", "too few", "late refusal"])
def test_a_fit_that_did_not_finish_changes_nothing(likelihood: str, how: str) -> None:
    x = 1000 * numbers() if likelihood == "gaussian" else counts()
    fresh, model = made(likelihood), made(likelihood)
    if how == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            model.fit(x / 2 if likelihood == "gaussian" else np.minimum(x, 12), epochs=3, progress=interrupt)
    elif how == "too few":
        with pytest.raises(TooFewSimulationsError, match="5 rows"):
            model.fit(np.minimum(x[:5], 3), epochs=3)
    else:
        with pytest.raises((ObservationError, sf.errors.ShapeError)):
            model.fit(np.minimum(x, 3), np.full((3, 4), np.nan), epochs=3)
    assert not model.scaled
    fresh.fit(x, epochs=2)
    model.fit(x, epochs=2)
    assert model.likelihood == fresh.likelihood
    assert np.array_equal(model.elbo(x).bound, fresh.elbo(x).bound)


def test_an_interrupted_second_fit_keeps_the_first() -> None:
    model = made()
    first = model.fit(numbers(), epochs=2)
    bound = model.elbo(numbers()).bound
    with pytest.raises(KeyboardInterrupt):
        model.fit(numbers(), epochs=3, progress=interrupt, frozen="encoder")
    assert np.array_equal(model.elbo(numbers()).bound, bound)
    assert model.history is first
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_a_loaded_unfitted_model_takes_its_units_from_data(tmp_path: Path) -> None:
    model = made()
    model.save(tmp_path / "m")
    loaded = vae.load(tmp_path / "m")
    for each in (model, loaded):
        each.fit(1000 * numbers(), epochs=2)
    assert np.array_equal(model.elbo(numbers()).bound, loaded.elbo(numbers()).bound)


@pytest.mark.parametrize(
    ("fitted", "options"),
    [
        ("gaussian", {"free_bits": 1.0}),
        ("gaussian", {"warmup": 1}),
        ("gaussian", {"frozen": "encoder"}),
        (vae.Gaussian(sd=3.0), {}),
    ],
)
def test_a_checkpoint_of_another_objective_is_refused(
    tmp_path: Path, fitted: object, options: dict[str, object]
) -> None:
    made().fit(numbers(), epochs=2, checkpoint=tmp_path / "c")
    with pytest.raises(BankMismatchError, match="checkpoint"):
        made(fitted).fit(numbers(), epochs=2, checkpoint=tmp_path / "c", **options)  # type: ignore[arg-type]


def test_a_frozen_fit_resumes_from_its_own_checkpoint(tmp_path: Path) -> None:
    found = []
    for checkpoint in (None, tmp_path / "c", tmp_path / "c"):
        model = made()
        model.fit(numbers() + 1e3, epochs=2, frozen="encoder", checkpoint=checkpoint)
        found.append(model.elbo(numbers()).bound)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_clusters_can_be_fitted_with_a_checkpoint(tmp_path: Path) -> None:
    found = []
    for checkpoint in (None, tmp_path / "c", tmp_path / "c"):
        model = vae.ClusterVAE(clusters=2, event_shape=4, latent=2, likelihood="gaussian", settings=SMALL)
        model.fit(numbers(), epochs=2, tuning_epochs=1, checkpoint=checkpoint)
        found.append(model.sample(3))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("decoder", [nn.Linear(3, 4), nn.Linear(2, 5)])
def test_a_decoder_of_the_wrong_shape_is_refused_at_once(decoder: nn.Module) -> None:
    with pytest.raises((SettingsError, sf.errors.ShapeError), match=r"\(rows, 2\) to \(rows, 1, 4\)"):
        made(decoder=decoder)
    assert torch.is_grad_enabled()
