"""Loading an autoencoder: one safetensors file with weights, sizes, history and check values.

The networks are rebuilt from the record and filled with the weights. Then the terms of the bound of four
stored events are recomputed, and must come out as they were. A decoder that was the user's own module is
passed in again: no file names code.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from sbi_flows.errors import SettingsError
from sbi_flows.files import Arrays, Manifest, RefusedError, under
from sbi_flows.training.history import History
from sbi_flows.vae.cluster import ClusterVAE
from sbi_flows.vae.hierarchical import HierarchicalVAE
from sbi_flows.vae.likelihoods import from_json
from sbi_flows.vae.model import CHECKED_DRAWS, VAE, VAE_FILE
from sbi_flows.vae.settings import VAESettings


def load(path: str | os.PathLike[str], *, decoder: nn.Module | None = None) -> VAE:
    """Load an autoencoder that `VAE.save` wrote.

    decoder: a module like the one that was passed to `VAE`, whose weights are replaced; needed if and only if
    there was one. Raises `StorageError`, `CorruptFileError` (also if the check values do not come out),
    `FormatVersionError`, `SettingsError`.
    """

    def rebuilt(record: Manifest, arrays: Arrays) -> VAE:
        if bool(record.get("own_decoder")) != (decoder is not None):
            wanted = (
                "no decoder"
                if decoder is not None
                else "the decoder module that it was made with: vae.load(path, decoder=...)"
            )
            raise RefusedError(SettingsError(f"{path} holds an autoencoder that needs {wanted}."))
        return _rebuilt(record, arrays, decoder)

    return VAE_FILE.load(
        path, rebuilt, lambda model, checks: model.elbo(checks["x"], CHECKED_DRAWS, seed=0).terms
    )


def _rebuilt(record: Manifest, arrays: Arrays, decoder: nn.Module | None) -> VAE:
    options: dict[str, Any] = {
        "event_shape": tuple(record["event_shape"]),
        "latent": record["latent"],
        "likelihood": from_json(record["likelihood"]),
        "encoder": record["encoder"],
        "seed": record["seed"],
        "decoder": decoder,
        "settings": VAESettings.from_json(record["settings"]),
    }
    model: VAE
    if record.get("sizes"):
        model = HierarchicalVAE(**{**options, "latent": record["sizes"]})
    else:
        clusters = record.get("clusters")
        model = ClusterVAE(clusters=clusters, **options) if clusters else VAE(**options)
    model.module.load_state_dict(
        {name: torch.from_numpy(value) for name, value in under("net", arrays).items()}
    )
    model.history = History(**record["history"])
    model.scaled = bool(record.get("scaled", True))
    return model
