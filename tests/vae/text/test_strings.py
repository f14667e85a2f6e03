"""The string language of the benchmark, and optimisation in the latent space of a sentence autoencoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbi_flows import vae
from sbi_flows.rng import stream

from . import strings as language


@pytest.mark.parametrize(
    ("string", "valid"),
    [
        ("C", True),
        ("CC(=O)N", True),
        ("C(F)(F)(F)F", True),
        ("C(F)(F)(F)(F)F", False),
        ("C#N", True),
        ("C#O", False),
        ("N=CF", True),
        ("CFC", False),
        ("C(C(C))C", True),
        ("", False),
        ("=C", False),
        ("C=", False),
        ("C==C", False),
        ("C()C", False),
        ("(C)C", False),
        ("C(C", False),
        ("CC)", False),
        ("C(=)C", False),
        ("CX", False),
    ],
)
def test_a_string_is_valid_if_brackets_close_and_bonds_suffice(string: str, valid: bool) -> None:
    assert (language.atoms_and_bonds(string) is not None) == valid
    assert (language.worth(string) > -np.inf) == valid


def test_the_worth_is_what_its_formula_says() -> None:
    assert language.worth("CC(=O)N") == pytest.approx(6.5 - 0.75 * 3 - 1.2 * 2 - 0.9 * 1)
    assert language.worth("NN") == pytest.approx(6.5 - 0.75 * 5 - 1.2 * 2 - 0.9 * 2 - 1.5)
    assert language.worth("OCC=CN(C)C=O") == pytest.approx(6.5 - 0.75 * 0 - 1.2 * 1)
    assert language.worth("OCC=CN(CO)C=O") == pytest.approx(6.5 - 0.75 * 0)


def test_strings_are_valid_and_different_and_the_same_for_a_seed() -> None:
    found = language.strings(500, stream(0, "strings"))
    assert len(set(found)) == 500
    assert all(language.worth(string) > -np.inf for string in found)
    assert max(language.worth(string) for string in found) < language.HIGHEST
    assert found == language.strings(500, stream(0, "strings"))


def test_optimisation_in_latent_space_decodes_to_sentences() -> None:
    letters = [list(string) for string in language.strings(100, stream(0, "strings"))]
    model = vae.SentenceVAE(latent=2, settings=vae.SentenceSettings(embedding=4, width=8))
    model.fit(letters, epochs=1)
    goal = torch.tensor([1.0, -1.0]).double()
    found = vae.optimise(
        model,
        lambda z: -0.5 * (z - goal).square().sum(dim=1),
        model.latent_mean(letters[:5]),
        prior_weight=1.0,
        steps=500,
    )
    assert np.allclose(found.z, [[0.5, -0.5]], atol=1e-2)
    assert len(model.decode(found.best)) == 5
