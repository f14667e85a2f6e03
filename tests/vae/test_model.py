"""The autoencoder: shapes, seeds, and a bound that is a bound with the correct gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import sbi_flows as sf
from sbi_flows import vae
from sbi_flows.errors import ObservationError, SettingsError, ShapeError, TooFewSimulationsError
from sbi_flows.rng import stream
from sbi_flows.vae.objective import loss_with

SMALL = vae.VAESettings(width=16, summary_features=8, flow_width=8, layers=2)
ENCODERS = ["diagonal", "full_rank", "planar", "iaf", "coupling", "spline_coupling"]


def events(n: int = 200, seed: int = 0) -> np.ndarray:
    """2 x 3 pictures of zeros and ones that depend on two hidden numbers."""
    rng = stream(seed, "events")
    z, directions = rng.standard_normal((n, 2)), stream(7, "directions").standard_normal((2, 6))
    return (z @ directions + 0.5 * rng.standard_normal((n, 6)) > 0).astype(float).reshape(n, 2, 3)


def made(encoder: str = "diagonal", **options: object) -> vae.VAE:
    return vae.VAE(
        **{"event_shape": (2, 3), "latent": 2, "encoder": encoder, "seed": 1, "settings": SMALL, **options}
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=ENCODERS)
def fitted(request: pytest.FixtureRequest) -> vae.VAE:
    model = made(request.param)
    model.fit(events(), events(50, 1), epochs=3, warmup=1)
    return model


def test_shapes_are_rows_of_events_and_one_event_is_one_row(fitted: vae.VAE) -> None:
    x = events(5, 2)
    assert fitted.elbo(x).bound.shape == fitted.log_evidence(x, 50).log_evidence.shape == (5,)
    assert fitted.encode(x, 3).shape == (5, 3, 2)
    assert fitted.latent_mean(x).shape == (5, 2)
    assert fitted.decode(np.zeros((4, 2))).shape == (4, 2, 3)
    assert fitted.reconstruct(x).shape == (5, 2, 3)
    assert fitted.sample(7).shape == (7, 2, 3)
    assert (
        fitted.interpolate(x[0], x[1], 4).shape
        == fitted.interpolate(x[0], x[1], 4, path="spherical").shape
        == (4, 2, 3)
    )
    assert fitted.log_likelihood(x[0], np.zeros((4, 2))).shape == (4,)
    assert fitted.active_units(x).shape == (2,)
    assert np.allclose(fitted.elbo(x[2:3]).bound, fitted.elbo(x[2]).bound, rtol=0, atol=0)
    assert set(np.unique(fitted.sample(50))) <= {0.0, 1.0}


def test_lists_and_tensors_and_other_dtypes_are_the_same_data(fitted: vae.VAE) -> None:
    x = events(3, 2)
    wanted = fitted.elbo(x).bound
    for given in (x.tolist(), x.astype(np.int8), torch.from_numpy(x).float(), x.astype(bool)):
        assert np.array_equal(fitted.elbo(given).bound, wanted)


def test_the_ends_of_a_path_are_reconstructions(fitted: vae.VAE) -> None:
    x = events(2, 2)
    path = fitted.interpolate(x[0], x[1], 5)
    assert np.allclose(path[[0, -1]], fitted.reconstruct(x), rtol=0, atol=1e-12)


def test_the_bound_is_below_the_evidence(fitted: vae.VAE) -> None:
    """The log of the mean weight is at least the mean log weight, in each row whatever the draws."""
    log_weights = fitted.log_weights(events(20, 2), 200)
    found = fitted.log_evidence(events(20, 2), 200)
    assert (log_weights.mean(axis=1) <= found.log_evidence).all()
    assert (found.standard_error > 0).all()
    terms = fitted.elbo(events(20, 2))
    assert np.array_equal(terms.bound, terms.reconstruction - terms.kl)
    assert np.allclose(terms.kl, terms.kl_parts.sum(axis=1))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(encoder: str) -> None:
    found = []
    for seed in (1, 1, 2):
        model = made(encoder, seed=seed)
        model.fit(events(), epochs=2)
        found.append(
            (
                model.elbo(events(4, 2)).bound.tobytes(),
                model.sample(5).tobytes(),
                model.encode(events(4, 2)).tobytes(),
            )
        )
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]


@pytest.mark.parametrize("encoder", ["diagonal", "full_rank"])
def test_the_kl_in_closed_form_is_the_mean_log_ratio(encoder: str) -> None:
    """|z| < 4.5 for each of 10 rows, one false alarm in 10,000."""
    model = made(encoder)
    with torch.no_grad():
        for i, parameter in enumerate(model.module.encoder.parameters()):
            parameter.add_(torch.from_numpy(0.3 * stream(i, "moves").standard_normal(parameter.shape)))
        x = torch.from_numpy(events(10, 2).reshape(10, 6))
        terms = model.module(x, torch.from_numpy(stream(0, "noise").standard_normal((10, 20_000, 2))))
    ratio = (terms.log_q - terms.log_prior).numpy()
    z = (ratio.mean(axis=1) - terms.kl.sum(dim=1).numpy()) / (ratio.std(axis=1) / np.sqrt(20_000))
    assert (np.abs(z) < 4.5).all()
    assert terms.kl.shape == (10, 2 if encoder == "diagonal" else 1)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_gradient_of_the_loss_agrees_with_finite_differences(encoder: str) -> None:
    module = made(encoder).module
    x = torch.from_numpy(events(6, 2).reshape(6, 6))
    batch = (
        x,
        torch.from_numpy(stream(0, "noise").standard_normal((6, 2, 2))),
        torch.full((6,), 0.7).double(),
    )
    loss = loss_with(0.0)
    loss(module, batch).mean().backward()
    for i, parameter in enumerate(module.parameters()):
        if parameter.grad is None:
            continue
        way = torch.from_numpy(stream(i, "ways").standard_normal(parameter.shape))
        values = []
        with torch.no_grad():
            for step in (1e-5, -2e-5, 1e-5):
                parameter.add_(step * way)
                values.append(float(loss(module, batch).mean()))
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(
            float((parameter.grad * way).sum()), rel=1e-4, abs=1e-7
        )


def test_free_bits_do_not_penalise_a_low_kl() -> None:
    module = made().module.train()
    x = torch.from_numpy(events(6, 2).reshape(6, 6))
    batch = (x, torch.from_numpy(stream(0, "noise").standard_normal((6, 1, 2))), torch.ones(6).double())
    plain, free = loss_with(0.0)(module, batch), loss_with(0.5)(module, batch)
    kl = module.encoder.kl(module.encoder.context(x)).mean(dim=0)
    assert (kl < 0.5).all()
    assert float((free - plain).mean().detach()) == pytest.approx(float((1.0 - kl.sum()).detach()), rel=1e-9)
    module.eval()
    assert torch.equal(loss_with(0.5)(module, batch), loss_with(0.0)(module, batch))


def test_the_weight_of_the_kl_rises_in_each_cycle() -> None:
    assert [vae.Warmup(4).weight(t) for t in (0, 1, 3, 4, 9)] == [0, 0.25, 0.75, 1, 1]
    assert [vae.Warmup(8, cycles=2, ramp=0.5).weight(t) for t in (0, 1, 2, 3, 4, 5, 7, 8)] == [
        0,
        0.5,
        1,
        1,
        0,
        0.5,
        1,
        1,
    ]
    assert vae.Warmup(0).weight(0) == 1
    for options in ({"epochs": -1}, {"cycles": 0}, {"ramp": 0.0}, {"ramp": 1.1}):
        with pytest.raises(SettingsError):
            vae.Warmup(**options)  # type: ignore[arg-type]


def test_weights_are_compared_only_after_the_warm_up() -> None:
    model = made()
    history = model.fit(events(), events(50, 1), epochs=6, warmup=4)
    assert history.best_epoch >= 4
    assert len(history.valid_loss) == 6


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_frozen_part_stays_as_it_is(part: str) -> None:
    model = made()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.fit(events(), epochs=2, frozen=part)
    moved = {name for name, value in model.module.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert not [name for name in moved if name.startswith(part)]
    assert all(parameter.requires_grad for parameter in model.module.parameters())


@pytest.mark.slow
def test_refining_the_encoder_tightens_the_bound_and_leaves_the_model_as_it_is() -> None:
    """The encoder overfits 80 events, but not draws from the model. The bound on 2,000 others gains 5
    standard errors or more.
    """
    model, test = made(latent=3, settings=vae.VAESettings(width=64)), events(2000, 3)
    with pytest.raises(SettingsError, match="trained"):
        model.refine_encoder(events(80))
    model.fit(
        events(80), epochs=150, train_settings=sf.TrainSettings(weight_decay=0.0, patience=150, batch_size=16)
    )
    before = {name: value.clone() for name, value in model.module.decoder.state_dict().items()}
    loose = model.elbo(test).bound
    model.refine_encoder(events(80), draws=8000, epochs=4)
    gain = model.elbo(test).bound - loose
    assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain))
    assert all(torch.equal(value, before[name]) for name, value in model.module.decoder.state_dict().items())


@pytest.mark.parametrize(
    ("model", "options"),
    [(vae.HierarchicalVAE, {"latent": (2, 2)}), (vae.ClusterVAE, {"latent": 2, "clusters": 2})],
)
def test_refining_does_not_change_a_learned_prior(model: type[vae.VAE], options: dict[str, object]) -> None:
    made = model(event_shape=(2, 3), settings=SMALL, **options)  # type: ignore[arg-type]
    made.fit(events(), epochs=2)
    before = {name: value.clone() for name, value in made.module.state_dict().items()}
    made.refine_encoder(events(), events(50, 1), draws=200, epochs=1)
    moved = {
        name.split(".")[0]
        for name, value in made.module.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"encoder"}


def test_a_count_of_classes_is_taken_from_the_training_data() -> None:
    x = stream(0, "classes").integers(0, 3, (100, 4))
    model = vae.VAE(event_shape=4, latent=2, likelihood="categorical", settings=SMALL)
    with pytest.raises(SettingsError, match=r"fit\(x_train\)"):
        model.sample(3)
    model.fit(x, epochs=2)
    assert model.likelihood == vae.Categorical(3)
    assert set(np.unique(model.decode(np.zeros((1, 2))))) <= {0.0, 1.0, 2.0}
    with pytest.raises(ObservationError, match="from 0 to 2; got 3"):
        model.elbo(np.full((1, 4), 3))


def test_a_second_fit_continues_and_a_checkpoint_ends_at_the_same_bytes(tmp_path: Path) -> None:
    whole, begun = made(), made()
    whole.fit(events(), epochs=4)
    begun.fit(events(), epochs=4, checkpoint=tmp_path / "c")
    again = made()
    again.fit(events(), epochs=4, checkpoint=tmp_path / "c")
    bound = whole.elbo(events(4, 2)).bound
    assert np.array_equal(begun.elbo(events(4, 2)).bound, bound)
    assert np.array_equal(again.elbo(events(4, 2)).bound, bound)
    whole.fit(events(), epochs=2)
    assert not np.array_equal(whole.elbo(events(4, 2)).bound, bound)


def test_bad_input_is_refused() -> None:
    model = made()
    with pytest.raises(ShapeError, match=r"\(2, 3\).* got \(4, 6\)"):
        model.elbo(np.zeros((4, 6)))
    with pytest.raises(ShapeError, match="no rows"):
        model.elbo(np.zeros((0, 2, 3)))
    with pytest.raises(ObservationError, match="nan in row 1, element 2"):
        model.elbo(np.stack([np.zeros((2, 3)), np.array([[0, 0, np.nan], [0, 0, 0]])]))
    with pytest.raises(ObservationError, match="x_train .* numbers"):
        model.fit([["a"]])
    with pytest.raises(ObservationError, match="0 or 1"):
        model.fit(events() * 0.5)
    with pytest.raises(TooFewSimulationsError):
        model.fit(events(20), epochs=1)
    with pytest.raises(SettingsError, match="warm-up of 5"):
        model.fit(events(), epochs=5, warmup=5)
    with pytest.raises(SettingsError, match="frozen"):
        model.fit(events(), frozen="prior")
    with pytest.raises(SettingsError, match="free_bits"):
        model.fit(events(), free_bits=-1)
    with pytest.raises(SettingsError, match="maf"):
        made("maf")
    with pytest.raises(SettingsError, match="latent"):
        made(latent=0)
    with pytest.raises(SettingsError, match="event_shape must be"):
        made(event_shape=(2, 0))
    with pytest.raises(SettingsError, match="seed"):
        made(seed=-1)
    with pytest.raises(SettingsError, match="n must be.* 0"):
        model.sample(0)
    with pytest.raises(SettingsError, match="great circle"):
        model.interpolate(events(1)[0], events(1)[0], 3, path="great circle")
    with pytest.raises(ShapeError, match="one event"):
        model.interpolate(events(2), events(1)[0], 3)
    with pytest.raises(SettingsError, match="width"):
        vae.VAESettings(width=0)
    with pytest.raises(ShapeError, match=r"z must be one event of shape \(2,\)"):
        model.decode(np.zeros(3))
    assert sf.vae is vae
