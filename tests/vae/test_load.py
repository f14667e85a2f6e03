"""A saved autoencoder is the same after loading, and an altered file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from sbi_flows import vae
from sbi_flows.errors import CorruptFileError, SbiFlowsError, SettingsError, StorageError
from sbi_flows.files import read_file, write_file
from sbi_flows.rng import stream, torch_scope

from .test_model import ENCODERS, SMALL, events, made


def network() -> nn.Module:
    with torch_scope(stream(0, "own network")):
        return nn.Linear(2, 6)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_everything_is_bit_identical_after_a_file_and_so_is_the_file(encoder: str, tmp_path: Path) -> None:
    model = made(encoder)
    model.fit(events(), epochs=2)
    model.save(tmp_path / "a")
    loaded = vae.load(tmp_path / "a")
    x = events(10, 3)
    for before, after in [
        (model.elbo(x).bound, loaded.elbo(x).bound),
        (model.sample(5), loaded.sample(5)),
        (model.encode(x, 3), loaded.encode(x, 3)),
        (model.log_evidence(x, 30).log_evidence, loaded.log_evidence(x, 30).log_evidence),
    ]:
        assert np.array_equal(before, after)
    assert (loaded.history, loaded.likelihood, loaded.settings) == (
        model.history,
        model.likelihood,
        model.settings,
    )
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_training_continues_from_a_file_as_from_memory(tmp_path: Path) -> None:
    model = made(likelihood=vae.Gaussian(sd="per_feature"))
    model.fit(events(), epochs=2)
    model.save(tmp_path / "a")
    loaded = vae.load(tmp_path / "a")
    for one in (model, loaded):
        one.fit(events(), epochs=2)
    assert np.array_equal(model.elbo(events(4, 2)).bound, loaded.elbo(events(4, 2)).bound)


def test_a_users_decoder_is_passed_to_load(tmp_path: Path) -> None:
    model = made(decoder=network())
    model.fit(events(), epochs=1)
    model.save(tmp_path / "a")
    assert np.array_equal(vae.load(tmp_path / "a", decoder=network()).sample(5), model.sample(5))
    with pytest.raises(SettingsError, match="decoder=..."):
        vae.load(tmp_path / "a")
    with pytest.raises(CorruptFileError, match="fit together"):
        vae.load(tmp_path / "a", decoder=nn.Sequential(network()))
    made().save(tmp_path / "b")
    with pytest.raises(SettingsError, match="no decoder"):
        vae.load(tmp_path / "b", decoder=network())


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    made().save(path)
    data, rng = path.read_bytes(), stream(0, "flips")
    for position in rng.integers(0, len(data), 60):
        altered = bytearray(data)
        altered[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(altered))
        with pytest.raises(SbiFlowsError):
            vae.load(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFileError):
        vae.load(path)
    with pytest.raises(StorageError, match="variational autoencoder"):
        vae.load(tmp_path / "none")


def test_weights_that_do_not_reproduce_the_check_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    made().save(path)
    arrays, manifest = read_file(path, "variational autoencoder")
    arrays["net/decoder.net.linear.bias"] = arrays["net/decoder.net.linear.bias"] + 0.01
    write_file(path, arrays, manifest)
    with pytest.raises(CorruptFileError, match="check values"):
        vae.load(path)
    del arrays["net/decoder.net.linear.bias"]
    write_file(path, arrays, manifest)
    with pytest.raises(CorruptFileError, match="fit together"):
        vae.load(path)


def test_a_model_that_waits_for_data_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"fit\(x_train\)"):
        vae.VAE(event_shape=3, latent=1, likelihood="binomial", settings=SMALL).save(tmp_path / "a")
