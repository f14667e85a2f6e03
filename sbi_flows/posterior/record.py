"""A posterior as one file: its record as JSON, its leaves, and check values."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np

from sbi_flows.files import Leaves, ModelFormat
from sbi_flows.flows.layers import has_free_ends
from sbi_flows.machine import torch_defaults
from sbi_flows.nets.encoder import EncodedSummary, TrainedEncoder
from sbi_flows.nets.own import OwnSummary
from sbi_flows.posterior.amortised import Amortised
from sbi_flows.rng import stream

POSTERIOR_FILE = ModelFormat(
    kind="posterior",
    loader="sf.load",
    newest=9,
    oldest=5,
    advice="Earlier posteriors had no screen of columns, no critic, another training cloud, or other masks. "
    "Fit again: sf.fit(...) on the same simulations, or `sbi-flows fit`.",
    tolerance=1e-4,
)
# formats without a record of what y is; without splines of free ends; and without declared summaries
_ONE_ARRAY, _PINNED, _WITHOUT_SUMMARIES = 8, 7, 6
_CHECKED, _MISSING_OF_CHECKED = 8, 0.2


@torch_defaults()
def save(posterior: Amortised, path: str | os.PathLike[str]) -> None:
    """Write the posterior to one file, whole or not at all. The bytes depend on the posterior alone."""
    theta = posterior.prior.sample(_CHECKED, stream(0, "canary"))
    y = stream(0, "canary", 1).uniform(0, 10, (_CHECKED, *posterior.event_shape)).round()
    declared = posterior.inputs.declared
    if declared is not None:
        y = declared.examples
        theta = theta[: len(y)]
    elif posterior.events.missing:
        y[1::2][stream(0, "canary", 2).random(y[1::2].shape) < _MISSING_OF_CHECKED] = np.nan
    noise = {"shift": posterior.noise_shift, "scale": posterior.noise_scale}
    leaves: dict[str, Leaves] = {
        "net": posterior.estimator.state_dict(),
        "scaler": posterior.scaler.arrays(),
        "recognition": posterior.detector.arrays(),
        "theta": {"centre": posterior.centre, "scale": posterior.scale},
        "noise": noise if posterior.recalibrated else {},
    }
    if declared is not None:
        leaves["declared"] = declared.arrays()
    if posterior.unresolved is not None:
        leaves["unresolved"] = posterior.unresolved.arrays()
    checks = {"theta": theta, "y": y, "log_prob": posterior.log_prob_of(theta, y)}
    POSTERIOR_FILE.save(path, _record(posterior), leaves, checks)


def _record(posterior: Amortised) -> dict[str, Any]:
    """All that is not a leaf, as JSON."""
    encoders = [part for part in posterior.estimator.modules() if isinstance(part, EncodedSummary)]
    settings = posterior.settings.to_json()
    plain = posterior.inputs.declared is None and "declared_summaries" not in settings
    of_y = _record_of_y(posterior)
    older = _WITHOUT_SUMMARIES if plain else _PINNED
    version = _ONE_ARRAY if has_free_ends(posterior.estimator.state_dict()) else older
    scaler = posterior.scaler
    return {
        **(of_y or {"format_version": version}),
        "prior": posterior.prior.to_json(maps=True),
        "event_shape": list(posterior.event_shape),
        "series": scaler.shared,
        "encoder": TrainedEncoder(encoders[0].encoder, scaler).sizes if encoders else None,
        "settings": settings,
        "history": asdict(posterior.history),
        "facts": dict(posterior.facts),
        "distortions": list(posterior.detector.kinds),
        "notes": [note.to_json() for note in posterior.notes],
        **({} if posterior.unresolved is None else {"unresolved": posterior.unresolved.to_json()}),
    }


def _record_of_y(posterior: Amortised) -> dict[str, Any]:
    """What y is, and what of it is observed, as JSON; empty for one complete array of which nothing is
    declared.
    """
    own = [part for part in posterior.estimator.modules() if isinstance(part, OwnSummary)]
    layout = posterior.inputs.layout
    return {
        **({} if layout is None else {"layout": layout.to_json()}),
        **({} if posterior.events.is_plain else {"events": posterior.events.to_json()}),
        **({} if posterior.observe is None else {"observe": posterior.observe.to_json()}),
        **({"own": type(own[0].module).__name__} if own else {}),
    }
