"""Seeds give what they gave, and files from before the package was laid out anew load, with their numbers.

Fits with splines have other numbers since splines have free ends: `TRAINED`.

On a machine whose floating point is that of the record, every byte. Elsewhere three epochs of float32 differ
by rounding: files that load give their numbers to 1e-3 of their spread, and of what is trained anew, mean and
spread over draws agree to a twentieth of it (draws of an ensemble are sorted by chance, so that single ones
may differ).
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows import vae
from tests import unchanged

DATA = Path(__file__).parent / "data" / "first_format"
NUMBERS = np.load(DATA / "numbers.npz")
TRAINED = np.load(DATA.parent / "free_ends.npz")
SAME_MACHINE = str(NUMBERS["machine"]) == unchanged.machine()
models = cache(unchanged.autoencoders)


def check(name: str, found: np.ndarray, *, trained: bool = False) -> None:
    numbers = TRAINED if trained else NUMBERS
    if SAME_MACHINE:
        assert unchanged.digest(found) == str(numbers[f"{name}/sha256"]), name
    elif name in numbers and trained:
        kept = numbers[name]
        for of in (np.mean, np.std):
            np.testing.assert_allclose(of(found, axis=1), of(kept, axis=1), atol=0.05 * float(np.std(kept)))
    elif name in numbers:
        np.testing.assert_allclose(
            found, NUMBERS[name], atol=1e-3 * max(float(np.std(NUMBERS[name])), 1.0), rtol=1e-3
        )


@pytest.mark.parametrize("name", unchanged.FITS)
def test_a_fit_of_a_fixed_set_and_its_draws(name: str) -> None:
    for key, value in unchanged.numbers_of(name, unchanged.fit(name)).items():
        if value.ndim > 1 or SAME_MACHINE:
            check(key, value, trained=True)


@pytest.mark.parametrize("name", unchanged.FITS)
def test_a_posterior_of_the_first_format_loads(name: str) -> None:
    """Weights in the file are exact; only evaluating them depends on the machine."""
    loaded = sf.load(DATA / f"{name}.safetensors")
    for key, value in unchanged.numbers_of(name, loaded).items():
        check(key, value)
    assert unchanged.digest(unchanged.numbers_of(name, loaded)[f"{name}/weights"]) == str(
        NUMBERS[f"{name}/weights/sha256"]
    )


def test_a_finished_checkpoint_of_the_first_format_is_taken_up(tmp_path: Path) -> None:
    shutil.copy(DATA / "curved.checkpoint", tmp_path)
    found = unchanged.numbers_of("curved", unchanged.fit("curved", tmp_path / "curved.checkpoint"))
    check("curved/draws", found["curved/draws"])


def test_a_bank_is_the_same_bytes(tmp_path: Path) -> None:
    read = sf.read_bank(DATA / "counted.bank")
    again = unchanged.bank(tmp_path / "bank")
    assert unchanged.bank_digest(DATA / "counted.bank") == str(NUMBERS["bank"])
    made = sf.simulate(unchanged.counted, 1000, seed=5)
    np.testing.assert_array_equal(read.y, made.y)
    np.testing.assert_allclose(read.theta, made.theta, rtol=1e-12)
    if SAME_MACHINE:
        assert again == str(NUMBERS["bank"])


def test_a_density() -> None:
    check("density", unchanged.density(), trained=True)


@pytest.mark.parametrize("name", ["vae", "cluster", "hierarchical", "sentences", "sde"])
def test_an_autoencoder_and_its_file_of_the_first_format(name: str) -> None:
    load = {"sentences": vae.SentenceVAE.load, "sde": vae.LatentSDE.load}.get(name, vae.load)
    for model in (models()[name], load(DATA / f"{name}.safetensors")):
        check(f"{name}/elbo", unchanged.elbo_of(name, model))
