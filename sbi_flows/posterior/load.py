"""Loading a posterior: one safetensors file with weights, scaling, detector, prior, settings, history and
check values.

The modules are rebuilt from the settings and filled with the leaves. Then the log densities of a few
simulated pairs are recomputed, and must come out as they were when the posterior was saved.

A file holds no code. Declared summaries, which the network takes besides y, are therefore passed again, as an
object, and must give the summaries of a few simulations that are in the file. So is a prior with functions of
earlier parameters, which must give the quantiles in the file. Only an installed plug-in is
found by the name of its simulator: it is code that the user has installed under that name, and a file cannot
lead to any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sbi_flows.errors import PluginError, PriorError, SettingsError, SummariesError
from sbi_flows.files import Arrays, Manifest, RefusedError, under
from sbi_flows.machine import torch_defaults
from sbi_flows.misspecification.detector import Detector
from sbi_flows.nets.choice import NETWORKS
from sbi_flows.nets.encoder import TrainedEncoder
from sbi_flows.nets.inputs import Declared, Inputs
from sbi_flows.nets.layout import SEVERAL, Layout
from sbi_flows.nets.own import OWN
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.vector import VectorSummary
from sbi_flows.notes import Note
from sbi_flows.npe.design import Design
from sbi_flows.npe.settings import DENSITIES, FitSettings
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.posterior.record import POSTERIOR_FILE
from sbi_flows.posterior.unresolved import Unresolved
from sbi_flows.problem.events import Events
from sbi_flows.problem.patterns import observe_from_json
from sbi_flows.problem.plugins import find_plugin
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.problem.stored import NOT_IN_FILES
from sbi_flows.problem.summaries import Summaries
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.history import History


@torch_defaults()
def load(
    path: str | os.PathLike[str],
    *,
    prior: Prior | None = None,
    simulator: Simulator | None = None,
    summaries: Callable[..., Any] | None = None,
    summary: nn.Module | None = None,
    observe: Callable[..., Any] | None = None,
) -> Posterior:
    """Load a posterior that `Posterior.save` wrote.

    prior: needed only where a marginal was a function of earlier parameters, or a class of your own, which a
        file cannot hold; it must be the stored one.
    simulator: has that prior too, and the summaries that it declares where these joined the network's input;
        needed only for either, and where it is not an installed plug-in of the stored name. summaries: those
        alone, instead of the simulator.
    summary: a module of the class that the posterior was fitted with, `sf.fit(..., summary=MyNet())`; its
        weights are in the file. observe: the function that it was fitted with; needed only by `sf.check`.

    Raises `StorageError`, `CorruptFileError` (also if the check values do not come out),
    `FormatVersionError` (also for files of 0.1.0), `PriorError`, `SettingsError`, and `SummariesError` where
    the declared summaries are missing or are others.
    """
    if not isinstance(path, str | os.PathLike):
        raise SettingsError(f"path must name a file, got {path!r}.")
    if observe is not None and not callable(observe):
        raise SettingsError(f"observe must be the function observe(y, rng) -> y of the fit, got {observe!r}.")
    given = _Given(prior, _given(simulator, summaries), summary, observe, simulator)
    return POSTERIOR_FILE.load(
        path,
        lambda record, arrays: _rebuilt(record, arrays, given),
        lambda posterior, checks: {"log_prob": posterior.log_prob_of(checks["theta"], checks["y"])},
    )


def _given(simulator: Simulator | None, summaries: Callable[..., Any] | None) -> Summaries | None:
    """The summaries that the caller of `load` passed."""
    if simulator is not None and summaries is not None:
        raise SettingsError("give simulator= or its summaries= alone, not both.")
    if simulator is not None and not isinstance(simulator, Simulator):
        raise SettingsError(
            f"simulator must be made with @sf.simulator(prior), got {type(simulator).__name__}. A function "
            "of y goes in summaries=."
        )
    if summaries is not None and not callable(summaries):
        raise SettingsError(f"summaries must be a function (y (n, *event)) -> (n, k), got {summaries!r}.")
    if simulator is not None:
        return simulator.declared_summaries
    return None if summaries is None else Summaries(summaries, "load")


@dataclass(frozen=True)
class _Given:
    """What the caller of `load` passed, because a file cannot hold it."""

    prior: Prior | None
    summaries: Summaries | None
    summary: nn.Module | None
    observe: Callable[..., Any] | None
    simulator: Simulator | None


def _own(record: Manifest, module: nn.Module | None) -> nn.Module | None:
    """The user's summary network. Raises `SettingsError` where it is missing, or not asked for."""
    name = record.get("own")
    if name is None:
        if module is not None:
            raise RefusedError(
                SettingsError("this posterior has no summary network of the user's own: leave out summary=.")
            )
        return None
    if not isinstance(module, nn.Module):
        raise RefusedError(
            SettingsError(
                f"this posterior was trained with a summary network of the user's own, {name}. A file holds "
                f"no code: pass such a module again, sf.load(path, summary={name}(...))."
            )
        )
    return module


def _rebuilt(record: Manifest, arrays: Arrays, given: _Given) -> Posterior:
    try:
        prior = _prior(record["prior"], given, record["facts"]["simulator"])
    except PriorError as error:
        raise RefusedError(error) from error
    _check_known(record["settings"])
    settings = FitSettings.from_json(record["settings"])
    event_shape = tuple(record["event_shape"])
    scaler = Scaler(event_shape, record["series"], **under("scaler", arrays))
    declared = _declared(record["facts"]["simulator"], under("declared", arrays), given.summaries)
    layout = Layout.from_json(record["layout"]) if "layout" in record else None
    events = Events.from_json(record["events"]) if "events" in record else Events.plain(event_shape)
    observe = observe_from_json(record["observe"], events, given.observe) if "observe" in record else None
    if given.observe is not None and (observe is None or not observe.own):
        raise RefusedError(
            SettingsError("this posterior was fitted without a function observe: leave it out.")
        )
    inputs = Inputs(scaler, declared, layout)
    noise = under("noise", arrays)
    with torch_scope(stream(0, "weights to be replaced")):
        encoder = TrainedEncoder(VectorSummary(*sizes), scaler) if (sizes := record.get("encoder")) else None
    design = Design(
        prior=prior,
        kind=settings.summary,
        inputs=inputs,
        centre=arrays["theta/centre"],
        scale=arrays["theta/scale"],
        settings=settings,
        seed=0,
        encoder=encoder,
        own=_own(record, given.summary),
    )
    try:
        network = design.network()
    except SettingsError as error:
        raise RefusedError(error) from error
    leaves = _of_an_ensemble(under("net", arrays)) if record["format_version"] < 6 else under("net", arrays)
    _fill(network, leaves, record)
    return Posterior(
        prior=prior,
        event_shape=event_shape,
        estimator=network.eval(),
        inputs=inputs,
        centre=design.centre,
        scale=design.scale,
        detector=Detector.from_arrays(under("recognition", arrays), tuple(record["distortions"])),
        settings=settings,
        history=History(**record["history"]),
        facts=record["facts"],
        notes=tuple(Note.from_json(note) for note in record["notes"]),
        noise_shift=noise.get("shift"),
        noise_scale=noise.get("scale"),
        made_of=events,
        observe=observe,
        unresolved=Unresolved.from_file(record["unresolved"], under("unresolved", arrays))
        if "unresolved" in record
        else None,
    )


def _fill(network: nn.Module, leaves: Arrays, record: Manifest) -> None:
    """Give the network its weights. Raises `SettingsError` where a module of the user's own does not fit
    them.
    """
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in leaves.items()})
    except RuntimeError as error:
        if "own" not in record:
            raise
        raise RefusedError(
            SettingsError(
                f"the summary network that was passed does not fit the weights in the file: {error}. Pass "
                f"one built with the arguments of the {record['own']} that was fitted with."
            )
        ) from error


def _declared(name: str, arrays: Arrays, given: Summaries | None) -> Declared | None:
    """The declared summaries of a file, with the function that was passed, or that of the plug-in of this
    name.
    """
    if not arrays:
        return None
    words = ""
    try:
        plugin = find_plugin(name) if given is None else None
    except PluginError as error:
        plugin, words = None, f" The installed plug-in cannot be loaded: {error}"
    function = given or (None if plugin is None else plugin.declared_summaries)
    try:
        if function is None:
            raise SummariesError(
                f"this posterior was trained on the data and {len(arrays['fill'])} summaries that the "
                f"simulator {name!r} declares. A file holds no code: pass the simulator again, sf.load(path, "
                f"simulator={name}), or its summaries alone, sf.load(path, summaries=function).{words}"
            )
        return Declared.from_arrays(arrays, function)
    except SummariesError as error:
        raise RefusedError(error) from error.__cause__


def _check_known(settings: Manifest) -> None:
    """Refuse networks that are not in the tables here: the file is sound, but another installation made
    it.
    """
    flows = settings["flow"] if isinstance(settings["flow"], list) else [settings["flow"]]
    asked = [*(("flow", kind, [*DENSITIES]) for kind in flows)]
    summaries = [*NETWORKS, "encoder", SEVERAL, OWN]
    for what, name, known in [*asked, ("summary", settings["summary"], summaries)]:
        if name not in known:
            raise RefusedError(
                SettingsError(
                    f"this posterior was made with the {what} {name!r}, and here there are "
                    f"{', '.join(known)}. Load it where {name!r} is defined."
                )
            )


def _of_an_ensemble(leaves: Arrays) -> Arrays:
    """Leaves of format 5, in which one network was not yet an ensemble of one and mixture weights had another
    name.
    """
    if "shares" in leaves:
        return {"mixture_weights" if name == "shares" else name: value for name, value in leaves.items()}
    members = {f"members.0.{name}": value for name, value in leaves.items()}
    return {**members, "mixture_weights": np.ones(1, dtype=np.float32)}


def _prior(records: list[dict[str, Any]], given: _Given, name: str) -> Prior:
    """The stored prior with its maps. What a file cannot hold is that of the prior or the simulator that was
    passed, or of the installed plug-in of this name. Raises `PriorError`.
    """
    known = given.prior
    if known is None and any(record["source"] in NOT_IN_FILES for record in records):
        source = given.simulator
        if source is None:
            with suppress(PluginError):
                source = find_plugin(name)
        known = None if source is None else source.prior
    if known is not None:
        if not isinstance(known, Prior):
            raise PriorError(
                f"prior must be an sf.Prior, got {type(known).__name__}. Pass the one that was fitted with, "
                f"simulator.prior."
            )
        known.check_stored(records)
    return Prior.from_json(records, known, stored_maps=True)
