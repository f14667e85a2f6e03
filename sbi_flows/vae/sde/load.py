"""A latent SDE on disk: one safetensors file with weights, sizes, clock, history and check values.

Loading rebuilds the networks from the record, puts the leaves in, and recomputes the terms of the bound of
four stored series, which must come out as they were. Modules that were the user's own are passed in again: no
file names code.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sbi_flows.errors import CorruptFileError, SettingsError, ShapeError
from sbi_flows.files import Arrays, read_file, write_file
from sbi_flows.training.history import History
from sbi_flows.vae.likelihoods import from_json, to_json
from sbi_flows.vae.sde.prior import PriorSDE
from sbi_flows.vae.sde.settings import SDESettings

if TYPE_CHECKING:
    from sbi_flows.vae.sde.model import LatentSDE

_KIND = "latent SDE"
_CANARIES, _CANARY_PATHS = 4, 4
_CANARY_STEPS = np.array([0.0, 2.0, 3.0, 6.0])
_TOLERANCE = 1e-6


def save_sde(model: LatentSDE, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, whole or not at all. The bytes depend on the model alone. Raises
    `StorageError`.
    """
    leaves = model.module.state_dict()
    times = model.origin + _CANARY_STEPS * (model.dt or 1.0)
    x = model.sample(times, _CANARIES, seed=0)
    terms = model.elbo(times, x, _CANARY_PATHS, seed=0)
    arrays: Arrays = {f"net/{name}": value.numpy(force=True) for name, value in leaves.items()}
    arrays |= {
        "canary/times": times,
        "canary/x": x,
        "canary/reconstruction": terms.reconstruction,
        "canary/kl": terms.kl,
    }
    manifest = {
        "kind": _KIND,
        "features": model.features,
        "latent": model.latent,
        "likelihood": to_json(model.likelihood),
        "seed": model.seed,
        "settings": model.settings.to_json(),
        "own": model.own,
        "clock": {"dt": model.dt, "origin": model.origin, "unit": model.unit, "scaled": model.scaled},
        "history": asdict(model.history),
    }
    write_file(path, arrays, manifest)


def load_sde(path: str | os.PathLike[str], prior: PriorSDE | None, decoder: nn.Module | None) -> LatentSDE:
    """The model that `save_sde` wrote."""
    arrays, manifest = read_file(path, _KIND)
    own = manifest.get("own", {})
    given = {"drift": prior and prior.drift, "diffusion": prior and prior.diffusion, "decoder": decoder}
    for name, module in given.items():
        if bool(own.get(name)) != (module is not None):
            place = f"prior=vae.PriorSDE({name}=...)" if name != "decoder" else "decoder=..."
            wanted = (
                f"the {name} module that it was made with: vae.LatentSDE.load(path, {place})"
                if own.get(name)
                else f"no {name} module"
            )
            raise SettingsError(f"{path} holds a latent SDE that needs {wanted}.")
    try:
        model = _rebuilt(arrays, manifest, prior, decoder)
        terms = model.elbo(arrays["canary/times"], arrays["canary/x"], _CANARY_PATHS, seed=0)
        expected = np.stack([arrays["canary/reconstruction"], arrays["canary/kl"]])
    except (SettingsError, ShapeError) as error:
        if not any(own.values()):
            raise CorruptFileError(
                f"{path}: the contents do not fit together ({error}). Make the file again."
            ) from error
        passed = ", ".join(name for name, module in given.items() if module is not None)
        raise SettingsError(
            f"{path} cannot be made with the modules that were passed ({passed}): {error}"
        ) from error
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise CorruptFileError(
            f"{path}: the contents do not fit together ({type(error).__name__}: {error}). Make the file "
            f"again."
        ) from error
    found = np.stack([terms.reconstruction, terms.kl])
    if not np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise CorruptFileError(
            f"{path}: the loaded model does not reproduce its stored check values (bound "
            f"{(found[0] - found[1])[0]:.6g}, stored "
            f"{(expected[0] - expected[1])[0]:.6g}). Was it saved by another version of the packages, or "
            f"with other modules?"
        )
    return model


def _rebuilt(
    arrays: Arrays, manifest: dict[str, Any], prior: PriorSDE | None, decoder: nn.Module | None
) -> LatentSDE:
    from sbi_flows.vae.sde.model import LatentSDE

    model = LatentSDE(
        features=manifest["features"],
        latent=manifest["latent"],
        likelihood=from_json(manifest["likelihood"]),
        seed=manifest["seed"],
        prior=prior,
        decoder=decoder,
        settings=SDESettings(**manifest["settings"]),
    )
    leaves = {name.removeprefix("net/"): value for name, value in arrays.items() if name.startswith("net/")}
    model.module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in leaves.items()})
    for name, value in manifest["clock"].items():
        setattr(model, name, value)
    model.module.set_clock(model.origin, model.unit)
    model.history = History(**manifest["history"])
    return model
