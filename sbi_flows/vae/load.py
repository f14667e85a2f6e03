"""An autoencoder on disk: one safetensors file with weights, sizes, history and check values.

Loading rebuilds the networks from the record, puts the leaves in, and recomputes the terms of the bound of
four stored events, which must come out as they were. A decoder that was the user's own module is passed in
again: no file names code.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sbi_flows.errors import CorruptFileError, SettingsError
from sbi_flows.files import Arrays, read_file, write_file
from sbi_flows.training.history import History
from sbi_flows.vae.likelihoods import from_json, to_json
from sbi_flows.vae.settings import VAESettings

if TYPE_CHECKING:
    from sbi_flows.vae.model import VAE

_KIND = "variational autoencoder"
_CANARIES, _CANARY_DRAWS = 4, 8
_CANARY_TOLERANCE = 1e-6


def save_vae(model: VAE, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, whole or not at all. The bytes depend on the model alone. Raises
    `StorageError`.
    """
    x = model.sample(_CANARIES, seed=0)
    terms = model.elbo(x, _CANARY_DRAWS, seed=0)
    arrays: Arrays = {
        f"net/{name}": value.numpy(force=True) for name, value in model.module.state_dict().items()
    }
    arrays |= {"canary/x": x, "canary/reconstruction": terms.reconstruction, "canary/kl": terms.kl}
    manifest = {
        "kind": _KIND,
        "event_shape": list(model.event_shape),
        "latent": model.latent,
        "likelihood": to_json(model.likelihood),
        "encoder": model.encoder,
        "seed": model.seed,
        "clusters": getattr(model, "clusters", 0),
        "sizes": list(getattr(model, "sizes", ())),
        "own_decoder": model.own_decoder,
        "scaled": model.scaled,
        "settings": model.settings.to_json(),
        "history": asdict(model.history),
    }
    write_file(path, arrays, manifest)


def load(path: str | os.PathLike[str], *, decoder: nn.Module | None = None) -> VAE:
    """Load an autoencoder that `VAE.save` wrote.

    decoder: a module like the one that was passed to `VAE`, whose weights are replaced; needed if and only if
    there was one. Raises `StorageError`, `CorruptFileError` (also if the check values do not come out),
    `FormatVersionError`, `SettingsError`.
    """
    arrays, manifest = read_file(path, _KIND)
    if bool(manifest.get("own_decoder")) != (decoder is not None):
        wanted = (
            "the decoder module that it was made with: vae.load(path, decoder=...)"
            if manifest.get("own_decoder")
            else "no decoder"
        )
        raise SettingsError(f"{path} holds an autoencoder that needs {wanted}.")
    try:
        model = _rebuilt(arrays, manifest, decoder)
        terms = model.elbo(arrays["canary/x"], _CANARY_DRAWS, seed=0)
        expected = np.stack([arrays["canary/reconstruction"], arrays["canary/kl"]])
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise CorruptFileError(
            f"{path}: the contents do not fit together ({type(error).__name__}: {error}). Make the file "
            f"again."
        ) from error
    found = np.stack([terms.reconstruction, terms.kl])
    if not np.allclose(found, expected, rtol=_CANARY_TOLERANCE, atol=_CANARY_TOLERANCE):
        raise CorruptFileError(
            f"{path}: the loaded autoencoder does not reproduce its stored check values (bound "
            f"{(found[0] - found[1])[0]:.6g}, stored "
            f"{(expected[0] - expected[1])[0]:.6g}). Was it saved by another version of the packages, or "
            f"with another decoder module?"
        )
    return model


def _rebuilt(arrays: Arrays, manifest: dict[str, Any], decoder: nn.Module | None) -> VAE:
    from sbi_flows.vae.cluster import ClusterVAE
    from sbi_flows.vae.hierarchical import HierarchicalVAE
    from sbi_flows.vae.model import VAE

    options: dict[str, Any] = {
        "event_shape": tuple(manifest["event_shape"]),
        "latent": manifest["latent"],
        "likelihood": from_json(manifest["likelihood"]),
        "encoder": manifest["encoder"],
        "seed": manifest["seed"],
        "decoder": decoder,
        "settings": VAESettings(**manifest["settings"]),
    }
    model: VAE
    if manifest["sizes"]:
        model = HierarchicalVAE(**{**options, "latent": manifest["sizes"]})
    else:
        model = (
            ClusterVAE(clusters=manifest["clusters"], **options) if manifest["clusters"] else VAE(**options)
        )
    leaves = {name.removeprefix("net/"): value for name, value in arrays.items() if name.startswith("net/")}
    model.module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in leaves.items()})
    model.history = History(**manifest["history"])
    model.scaled = bool(manifest.get("scaled", True))
    return model
