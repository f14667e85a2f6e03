"""What autoencoders refuse, and that they accept NumPy's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbi_flows import vae
from sbi_flows.errors import InputError, ObservationError, SettingsError, ShapeError
from sbi_flows.rng import stream

from .test_model import SMALL, events, made


@pytest.mark.parametrize(
    "options",
    [
        {"event_shape": None},
        {"event_shape": 2.0},
        {"event_shape": "6"},
        {"settings": {"hidden": 3}},
        {"decoder": 3},
        {"encoder": ["iaf"]},
        {"latent": None},
    ],
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        made(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": "3"}, "epochs .* '3'"),
        ({"epochs": None}, "epochs .* None"),
        ({"epochs": 0}, "epochs .* 0"),
        ({"free_bits": "a"}, "free_bits"),
        ({"free_bits": float("nan")}, "free_bits .* nan"),
        ({"train_settings": {"epochs": 3}}, "train_settings"),
        ({"warmup": True}, "warmup"),
        ({"draws": 2.0}, "draws"),
        ({"frozen": ["decoder"]}, "frozen"),
    ],
)
def test_options_of_a_fit_of_the_wrong_kind_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        made().fit(events(), **options)  # type: ignore[arg-type]


def test_the_ends_of_a_path_must_be_numbers() -> None:
    with pytest.raises(ObservationError, match="path .* numbers"):
        vae.path_between("a", [1.0], 3)  # type: ignore[arg-type]


def test_held_out_rows_are_refused_by_their_name() -> None:
    with pytest.raises(ShapeError, match=r"x_valid .* \(2, 3\)"):
        made().fit(events(), np.zeros((4, 5)))


def test_complex_and_masked_data_are_refused() -> None:
    x = events()
    masked = np.ma.masked_array(x, mask=x > 0)  # type: ignore[no-untyped-call]
    for given, named in ((x + 1j, "complex"), (masked, "finite")):
        with pytest.raises(ObservationError, match=named):
            made().fit(given)
        with pytest.raises(ObservationError, match=named):
            made().elbo(given)


def test_numbers_of_numpy_are_accepted() -> None:
    model = made(event_shape=np.int64(6), latent=np.int64(2), settings=vae.VAESettings(width=np.int64(4)))  # type: ignore[arg-type]
    assert model.event_shape == (6,)
    assert vae.Gaussian(np.float32(0.5)) == vae.Gaussian(0.5)  # type: ignore[arg-type]
    assert vae.Binomial(np.int64(3)) == vae.Binomial(3)  # type: ignore[arg-type]
    assert vae.Warmup(np.int64(3), ramp=np.float64(0.5)) == vae.Warmup(3, ramp=0.5)  # type: ignore[arg-type]
    assert len(model.fit(events().reshape(-1, 6), epochs=np.int64(2), warmup=np.int64(1)).valid_loss) == 2  # type: ignore[arg-type]
    for bad in ("a", float("nan"), None):
        with pytest.raises(SettingsError, match="ramp"):
            vae.Warmup(3, ramp=bad)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="two or more layers"):
        vae.HierarchicalVAE(latent=None, event_shape=6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels", [["a", "b"] * 20, [None] * 40, [np.nan, *range(39)], [1j, *range(39)], None]
)
def test_labels_must_be_finite_numbers(labels: object) -> None:
    with pytest.raises(InputError, match="labels"):
        vae.attribute_vector(made(), events(40), labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("f", "told"),
    [
        (lambda z: None, "differentiate"),
        (lambda z: np.zeros(3), "differentiate"),
        (lambda z: torch.zeros(3).double(), "differentiate"),
        (lambda z: z.detach().sum(dim=1), "differentiate"),
        (lambda z: torch.log(z[:, 0] - 5), "finite"),
        (lambda z: z[:, 0] / 0, "finite"),
        (None, "function"),
    ],
)
def test_functions_without_a_finite_gradient_are_refused(f: object, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        vae.optimise(made(), f, np.ones((3, 2)), steps=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"prior_weight": "a"},
        {"prior_weight": np.inf},
        {"learning_rate": np.inf},
        {"learning_rate": 0},
        {"steps": None},
    ],
)
def test_bad_options_of_optimise_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        vae.optimise(made(), lambda z: z.sum(dim=1), np.ones((3, 2)), **options)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="one number per row"):
        vae.optimise(made(), lambda z: z.sum(), np.ones((3, 2)), steps=1)


def test_options_of_clusters_are_kept_or_refused() -> None:
    x = stream(0, "x").standard_normal((100, 4))
    model = vae.ClusterVAE(clusters=2, event_shape=4, latent=2, likelihood="gaussian", settings=SMALL)
    before = [parameter.clone() for parameter in model.module.decoder.net.parameters()]
    model.fit(x, epochs=1, tuning_epochs=1, frozen="decoder")
    assert all(
        torch.equal(was, now) for was, now in zip(before, model.module.decoder.net.parameters(), strict=True)
    )
    for options in ({"epochs": 5}, {"warmup": 2}, {"nonsense": 1}):
        with pytest.raises(SettingsError, match=next(iter(options))):
            model.fit(x, **options)
    many = vae.ClusterVAE(clusters=101, event_shape=4, latent=2, likelihood="gaussian", settings=SMALL)
    with pytest.raises(SettingsError, match="101 .* 100"):
        many.fit(x)
    assert not many.scaled
