"""A posterior on disk: one safetensors file with weights, scaling, cloud and critic, prior, settings, history
and canary values.

Loading rebuilds the modules from the settings, puts the leaves in, and recomputes the canaries: log densities
of a few simulated pairs, which must come out as they were when the posterior was saved.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from sbi_flows.errors import CorruptFileError, FormatVersionError, PriorError, SettingsError
from sbi_flows.files import Arrays, read_file, write_file
from sbi_flows.misspecification.detector import Recognition
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.summary import EncodedSummary, Learned, SummaryKind, VectorSummary
from sbi_flows.npe.estimate import build_network
from sbi_flows.npe.settings import FitSettings
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.loop import History

if TYPE_CHECKING:
    from sbi_flows.posterior.posterior import Posterior

_KIND = "posterior"
_FORMAT_VERSION = 5
_CANARIES = 8
_CANARY_TOLERANCE = 1e-4


def save_posterior(posterior: Posterior, path: str | os.PathLike[str]) -> None:
    """Write `posterior` to `path`."""
    theta = posterior.prior.sample(_CANARIES, stream(0, "canary"))
    y = stream(0, "canary", 1).uniform(0, 10, (_CANARIES, *posterior.event_shape)).round()
    arrays: Arrays = {
        f"net/{name}": value.numpy(force=True) for name, value in posterior.estimator.state_dict().items()
    }
    arrays |= {f"scaler/{name}": value for name, value in posterior.scaler.arrays().items()}
    arrays |= {f"recognition/{name}": value for name, value in posterior.recognition.arrays().items()}
    arrays |= {"theta/centre": posterior.centre, "theta/scale": posterior.scale}
    arrays |= {"canary/theta": theta, "canary/y": y, "canary/log_prob": posterior.log_prob(theta, y)}
    if posterior.noise_shift is not None and posterior.noise_scale is not None:
        arrays |= {"noise/shift": posterior.noise_shift, "noise/scale": posterior.noise_scale}
    manifest = {
        "kind": _KIND,
        "format_version": _FORMAT_VERSION,
        "prior": posterior.prior.to_json(),
        "event_shape": list(posterior.event_shape),
        "series": posterior.scaler.shared,
        "encoder": _sizes_of_encoder(posterior),
        "settings": posterior.settings.to_json(),
        "history": asdict(posterior.history),
        "facts": dict(posterior.facts),
        "distortions": list(posterior.recognition.kinds),
        "notes": list(posterior.notes),
    }
    write_file(path, arrays, manifest)


def load(path: str | os.PathLike[str], *, prior: Prior | None = None) -> Posterior:
    """Load a posterior that `Posterior.save` wrote.

    prior: needed only where a marginal was the user's own class, which a file cannot hold; it must have the
    stored names. Raises `StorageError`, `CorruptFileError` (also if the canary values do not come out),
    `FormatVersionError` (also for files of 0.1.0, whose flows had other masks), `PriorError`.
    """
    from sbi_flows.posterior.posterior import Posterior

    if not isinstance(path, str | os.PathLike):
        raise SettingsError(f"path must name a file, got {path!r}.")
    arrays, manifest = read_file(path, _KIND, newest=_FORMAT_VERSION)
    if manifest.get("format_version", 0) < _FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} has format version {manifest.get('format_version')}; this version of sbi_flows reads "
            f"{_FORMAT_VERSION}. Earlier "
            "posteriors had no screen of columns, no critic, another training cloud, shares of an ensemble "
            "or masks. Fit again: "
            "sf.fit(...) on the same simulations, or `sbi-flows fit`."
        )
    try:
        found = _rebuild(arrays, manifest, prior)
    except (KeyError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        raise CorruptFileError(
            f"{path}: the contents do not fit together ({type(error).__name__}: {error}). Make the file "
            f"again."
        ) from error
    posterior = Posterior(**found)
    expected = arrays["canary/log_prob"]
    other = (
        ""
        if prior is None
        else " If the prior that was passed is not the one that was fitted with, pass that one."
    )
    recomputed = posterior.log_prob(arrays["canary/theta"], arrays["canary/y"])
    if not np.allclose(recomputed, expected, rtol=_CANARY_TOLERANCE, atol=_CANARY_TOLERANCE):
        worst = int(np.argmax(np.abs(recomputed - expected)))
        raise CorruptFileError(
            f"{path}: the loaded posterior does not reproduce its stored check values (log density "
            f"{recomputed[worst]:.6g}, stored "
            f"{expected[worst]:.6g}). Package versions when saved: "
            f"{manifest['facts'].get('versions')}.{other}"
        )
    return posterior


def _sizes_of_encoder(posterior: Posterior) -> tuple[int, int, int] | None:
    found = [part for part in posterior.estimator.modules() if isinstance(part, EncodedSummary)]
    return Learned(found[0].encoder, posterior.scaler).sizes if found else None


def _rebuild(arrays: Arrays, manifest: dict[str, Any], prior: Prior | None) -> dict[str, Any]:
    if prior is None:
        prior = Prior.from_json(manifest["prior"])
    else:
        _check_prior(prior, manifest["prior"])
    settings = FitSettings.from_json(manifest["settings"])
    event_shape = tuple(manifest["event_shape"])
    scaler = Scaler(event_shape, manifest["series"], **_under("scaler/", arrays))
    with torch_scope(stream(0, "weights to be replaced")):
        learned = Learned(VectorSummary(*sizes), scaler) if (sizes := manifest.get("encoder")) else None
    estimator = build_network(
        settings, cast("SummaryKind", settings.summary), scaler, prior.unconstrained_dim, 0, learned
    )
    estimator.load_state_dict(
        {name: torch.from_numpy(value) for name, value in _under("net/", arrays).items()}
    )
    kinds = tuple(manifest["distortions"])
    return {
        "prior": prior,
        "event_shape": event_shape,
        "estimator": estimator.eval(),
        "scaler": scaler,
        "centre": arrays["theta/centre"],
        "scale": arrays["theta/scale"],
        "recognition": Recognition.from_arrays(_under("recognition/", arrays), kinds),
        "settings": settings,
        "history": History(**manifest["history"]),
        "facts": manifest["facts"],
        "notes": tuple(manifest["notes"]),
        "noise_shift": arrays.get("noise/shift"),
        "noise_scale": arrays.get("noise/scale"),
    }


def _check_prior(prior: Prior, stored: list[dict[str, Any]]) -> None:
    """Raise `PriorError` unless `prior` has the stored marginals; of a user's own class only the name can be
    compared.
    """
    if not isinstance(prior, Prior):
        raise PriorError(
            f"prior must be an sf.Prior, got {type(prior).__name__}. Pass the one that was fitted with, "
            f"simulator.prior."
        )
    names = [record["name"] for record in stored]
    if names != list(prior.marginals):
        raise PriorError(
            f"the stored posterior has parameters {names}, the prior that was passed has "
            f"{list(prior.marginals)}."
        )
    for there, record in zip(stored, prior.to_json(), strict=True):
        if (
            "custom" not in (there["source"], record["source"])
            and there != record
            and not _same(there, record)
        ):
            raise PriorError(
                f"the posterior was fitted with {_marginal_text(there)}, the prior that was passed has "
                f"{_marginal_text(record)}. Pass the "
                "prior that was fitted with, or none: this marginal is in the file."
            )


def _same(there: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether two marginals that are written differently are one and the same."""
    one, other = Prior.from_json([there]), Prior.from_json([record])
    theta = other.sample(_CANARIES, stream(0, "prior"))
    return one.d == other.d and np.allclose(one.log_prob(theta), other.log_prob(theta))


def _marginal_text(record: dict[str, Any]) -> str:
    rest = {
        key: record[key]
        for key in sorted(record)
        if key not in ("name", "kind", "source") and record[key] not in ([], {})
    }
    return " ".join([record["name"], record["kind"], *map(str, rest.values())])


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {
        name.removeprefix(prefix): value.copy() for name, value in arrays.items() if name.startswith(prefix)
    }
