"""A sentence autoencoder on disk: one safetensors file with weights, words, sizes, history and check values.

Loading rebuilds the networks from the record, puts the leaves in, and recomputes the terms of the bound of
four stored sentences, which must come out as they were.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from sbi_flows.errors import CorruptFileError, SettingsError
from sbi_flows.files import Arrays, read_file, write_file
from sbi_flows.training.history import History
from sbi_flows.vae.text.model import SentenceVAE
from sbi_flows.vae.text.network import SentenceSettings
from sbi_flows.vae.text.words import Vocabulary

_KIND = "sentence autoencoder"
_CANARIES, _CANARY_DRAWS = 4, 8
_CANARY_TOLERANCE = 1e-6


def save_sentence_vae(model: SentenceVAE, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, whole or not at all. The bytes depend on the model alone. Raises
    `StorageError`, `SettingsError`.
    """
    x = model.sample(_CANARIES, seed=0)
    terms = model.elbo(x, _CANARY_DRAWS, seed=0)
    arrays: Arrays = {
        f"net/{name}": value.numpy(force=True) for name, value in model.module.state_dict().items()
    }
    arrays |= {
        "canary/x": model.vocabulary.tokens(x, "x"),
        "canary/reconstruction": terms.reconstruction,
        "canary/kl": terms.kl,
    }
    manifest = {
        "kind": _KIND,
        "latent": model.latent,
        "encoder": model.encoder,
        "seed": model.seed,
        "most_words": model.most_words,
        "words": list(model.vocabulary.words),
        "most": model.vocabulary.most,
        "settings": model.settings.to_json(),
        "history": asdict(model.history),
    }
    write_file(path, arrays, manifest)


def load_sentence_vae(path: str | os.PathLike[str]) -> SentenceVAE:
    """Load what `save_sentence_vae` wrote."""
    arrays, manifest = read_file(path, _KIND)
    try:
        model = _rebuilt(arrays, manifest)
        terms = model.elbo(model.vocabulary.sentences(arrays["canary/x"]), _CANARY_DRAWS, seed=0)
        expected = np.stack([arrays["canary/reconstruction"], arrays["canary/kl"]])
    except (
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        IndexError,
        AttributeError,
        SettingsError,
    ) as error:
        raise CorruptFileError(
            f"{path}: the contents do not fit together ({type(error).__name__}: {error}). Make the file "
            f"again."
        ) from error
    found = np.stack([terms.reconstruction, terms.kl])
    if not np.allclose(found, expected, rtol=_CANARY_TOLERANCE, atol=_CANARY_TOLERANCE):
        raise CorruptFileError(
            f"{path}: the loaded autoencoder does not reproduce its stored check values (bound "
            f"{(found[0] - found[1])[0]:.6g}, stored "
            f"{(expected[0] - expected[1])[0]:.6g}). Was it saved by another version of the packages?"
        )
    return model


def _rebuilt(arrays: Arrays, manifest: dict[str, Any]) -> SentenceVAE:
    model = SentenceVAE(
        latent=manifest["latent"],
        encoder=manifest["encoder"],
        seed=manifest["seed"],
        most_words=manifest["most_words"],
        settings=SentenceSettings(**manifest["settings"]),
    )
    model._vocabulary = Vocabulary(tuple(manifest["words"]), manifest["most"])
    leaves = {name.removeprefix("net/"): value for name, value in arrays.items() if name.startswith("net/")}
    model.module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in leaves.items()})
    model.history = History(**manifest["history"])
    return model
