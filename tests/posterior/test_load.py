"""One file, the same posterior: bytes, draws, densities; and nothing that has been altered is believed."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rv_continuous

import sbi_flows as sf
from sbi_flows.errors import (
    CorruptFileError,
    FormatVersionError,
    PriorError,
    SbiFlowsError,
    SettingsError,
    StorageError,
)
from sbi_flows.files import read_file, write_file

from ..conftest import QUICK

Y = np.array([0.5, 0.2, 0.1])
Saved = tuple[Path, Mapping[str, np.ndarray], dict[str, Any]]


@pytest.fixture
def saved(bounded_posterior: sf.Posterior, tmp_path: Path) -> Saved:
    """The file of a posterior, and what is in it."""
    path = tmp_path / "p.safetensors"
    bounded_posterior.save(path)
    return (path, *read_file(path, "posterior", newest=8))


def test_draws_and_densities_are_bit_identical_after_a_file(
    bounded_posterior: sf.Posterior, tmp_path: Path
) -> None:
    bounded_posterior.save(tmp_path / "p.safetensors")
    loaded = sf.load(tmp_path / "p.safetensors")
    before, after = (p.sample(Y, 500, seed=1) for p in (bounded_posterior, loaded))
    assert np.array_equal(before.to_numpy(), after.to_numpy())
    assert before.verdict == after.verdict
    theta = bounded_posterior.prior.sample(200, np.random.default_rng(0))
    assert np.array_equal(bounded_posterior.log_prob(theta, Y), loaded.log_prob(theta, Y))
    assert (loaded.settings, loaded.history, loaded.notes, dict(loaded.facts)) == (
        bounded_posterior.settings,
        bounded_posterior.history,
        bounded_posterior.notes,
        dict(bounded_posterior.facts),
    )


@pytest.mark.parametrize("flow", ["maf", "nsf", "coupling", "spline_coupling"])
def test_the_same_seed_and_number_of_simulations_give_the_same_bytes(
    bounded: sf.Simulator, tmp_path: Path, flow: str
) -> None:
    train = sf.TrainSettings(epochs=2, batch_size=64)
    settings = sf.FitSettings(
        flow=flow, width=8, layers=2, summary_features=4, members=2 if flow == "nsf" else 1, train=train
    )  # type: ignore[arg-type]
    files = []
    for i in range(2):
        sf.fit(bounded, n_simulations=600, seed=7, settings=settings, say=None).save(tmp_path / f"{i}")
        files.append((tmp_path / f"{i}").read_bytes())
    assert files[0] == files[1]
    sf.load(tmp_path / "0").save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == files[0]


def test_an_altered_bit_anywhere_is_refused(bounded_posterior: sf.Posterior, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    bounded_posterior.save(path)
    data = path.read_bytes()
    expected = bounded_posterior.sample(Y, 5, seed=1).to_numpy()
    rng = np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    positions = [
        *range(0, 8),
        *rng.integers(8, header, 60).tolist(),
        *rng.integers(header, len(data), 60).tolist(),
    ]
    for position in positions:
        altered = bytearray(data)
        altered[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(altered))
        try:
            loaded = sf.load(path)
        except SbiFlowsError:
            continue
        assert np.array_equal(loaded.sample(Y, 5, seed=1).to_numpy(), expected), f"byte {position}"
        assert json.dumps(loaded.prior.to_json()) == json.dumps(bounded_posterior.prior.to_json())


def test_a_cut_or_foreign_or_missing_file_is_refused_in_words(
    bounded_posterior: sf.Posterior, tmp_path: Path
) -> None:
    path = tmp_path / "p.safetensors"
    bounded_posterior.save(path)
    whole = path.read_bytes()
    for data in (b"", whole[:5], whole[: len(whole) // 2], b"\x80\x04\x95 pickle bytes", whole + b"tail"):
        path.write_bytes(data)
        with pytest.raises(CorruptFileError):
            sf.load(path)
    with pytest.raises(StorageError, match="none"):
        sf.load(tmp_path / "none")


def test_stored_check_values_that_do_not_come_out_are_refused(saved: Saved) -> None:
    path, arrays, manifest = saved
    write_file(path, {**arrays, "theta/scale": arrays["theta/scale"] * 1.01}, manifest)
    with pytest.raises(CorruptFileError, match="does not reproduce its stored check values"):
        sf.load(path)


def test_a_newer_format_or_another_kind_is_named(saved: Saved) -> None:
    path, arrays, manifest = saved
    write_file(path, arrays, {**manifest, "format_version": 99})
    with pytest.raises(FormatVersionError, match="format version 99"):
        sf.load(path)
    write_file(path, arrays, {**manifest, "kind": "simulation block"})
    with pytest.raises(CorruptFileError, match="holds a 'simulation block', not a 'posterior'"):
        sf.load(path)


def test_a_posterior_of_an_earlier_format_is_to_be_fitted_again(saved: Saved) -> None:
    path, arrays, manifest = saved
    assert manifest["format_version"] == 8
    assert not [name for name in arrays if "mask" in name]
    write_file(path, arrays, {**manifest, "format_version": 1})
    with pytest.raises(FormatVersionError, match=r"version 1; .* 5 to 9.* Fit again") as caught:
        sf.load(path)
    assert caught.value.exit_code == 2


def test_parts_that_do_not_fit_together_are_refused(saved: Saved) -> None:
    path, arrays, manifest = saved
    write_file(path, {name: value for name, value in arrays.items() if "flow" not in name}, manifest)
    with pytest.raises(CorruptFileError, match="do not fit together"):
        sf.load(path)
    write_file(path, arrays, {**manifest, "settings": {**manifest["settings"], "width": 17}})
    with pytest.raises(CorruptFileError, match="do not fit together"):
        sf.load(path)


def test_a_posterior_of_a_network_that_is_not_here_is_no_corrupt_file(saved: Saved) -> None:
    path, arrays, manifest = saved
    for name in ("flow", "summary"):
        write_file(path, arrays, {**manifest, "settings": {**manifest["settings"], name: "mine"}})
        with pytest.raises(SettingsError, match=f"{name} 'mine'"):
            sf.load(path)


class Tent(rv_continuous):
    def _pdf(self, x: np.ndarray) -> np.ndarray:
        return 1 - np.abs(x)


def test_a_marginal_of_the_users_own_is_passed_in_again(tmp_path: Path) -> None:
    prior = sf.Prior(x=Tent(a=-1, b=1, name="tent")())

    @sf.simulator(prior, event_shape=(2,))
    def model(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        return theta["x"][:, None] + rng.standard_normal((len(theta["x"]), 2))

    posterior = sf.fit(model, n_simulations=400, seed=1, settings=QUICK, say=None)
    posterior.save(tmp_path / "p")
    with pytest.raises(PriorError, match="sf.load\\(path, prior=prior\\)"):
        sf.load(tmp_path / "p")
    loaded = sf.load(tmp_path / "p", prior=prior)
    assert np.array_equal(
        loaded.sample([0.1, 0.2], 20).to_numpy(), posterior.sample([0.1, 0.2], 20).to_numpy()
    )
    with pytest.raises(PriorError, match=r"has parameters \['x'\]"):
        sf.load(tmp_path / "p", prior=sf.Prior(z=Tent(a=-1, b=1, name="tent")()))
