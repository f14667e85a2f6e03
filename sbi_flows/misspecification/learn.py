"""Learning, at the end of a fit, what simulated data look like, and what corrupted ones do: a `Detector`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sbi_flows.machine import torch_threads
from sbi_flows.misspecification.corruptions import corrupted, kinds_of
from sbi_flows.misspecification.detector import Detector, Examples
from sbi_flows.misspecification.features import features_of
from sbi_flows.misspecification.patterns import Patterns
from sbi_flows.nets.inputs import Inputs
from sbi_flows.nets.scaling import Scaler
from sbi_flows.npe.design import Estimate
from sbi_flows.npe.network import Ensemble
from sbi_flows.problem.patterns import Observe
from sbi_flows.rng import stream
from sbi_flows.simulation.simulations import Simulations

_MOST_TRAINING, _MOST_HELD_OUT = 10_000, 5000
_LEAST_TRAINING, _TRAINING_PER_SECOND = 1000, 60
_COPIES = 3
_ROWS_AT_ONCE = 1024
_ROWS_TO_TIME, _SECONDS_PER_PAIR, _SECONDS_PER_ROW = 256, 4e-8, 1.5e-4
_SHARE, _LEAST_SECONDS = 0.04, 0.2
_Summary = Callable[..., Tensor]


def rows_to_learn_from(
    found: Estimate, seconds: float | None = None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The numbers of the training rows, evenly spaced, and of the held-out rows that `learn` takes."""
    train_rows = found.train_rows[:: -(-len(found.train_rows) // _most_training(seconds))]
    return train_rows, found.held_out_rows[:_MOST_HELD_OUT]


@dataclass(frozen=True, eq=False)
class View:
    """What networks see of y: summary(*inputs(y).parts) -> (rows, learned), in float64. observe: patterns of
    what is observed, as in training.
    """

    summary: _Summary
    inputs: Inputs
    learned: int
    observe: Observe | None = None

    @classmethod
    def of(cls, found: Estimate) -> View:
        """That of a fit."""
        summary = copy.deepcopy(found.network).double().summary
        learned = sum(flow.context for flow in found.network.flows())
        return cls(summary, found.design.inputs, learned, found.design.observe)

    def seen(
        self, y: Shaped[np.ndarray, "n *event"], rng: np.random.Generator
    ) -> Shaped[np.ndarray, "n *event"]:
        """The events with gaps as in training."""
        return y if self.observe is None else self.observe(y, rng)


def learn(
    view: View,
    train_y: Shaped[np.ndarray, "n *event"],
    held_out_y: Shaped[np.ndarray, "m *event"],
    seed: int,
    seconds: float | None = None,
) -> Detector:
    """A detector from simulations that were trained on and from held-out ones. seconds: of the whole fit, by
    the clock.
    """
    inputs, features_at = view.inputs, partial(features, view.summary)
    scaler = inputs.scaler if _in_order(inputs) else Scaler.joined([inputs.scaler])
    seen = view.seen(train_y, stream(seed, "observed training"))
    train, located = features_at(inputs, seen)
    values, labels = corrupted(_complete(train_y), scaler, _COPIES, stream(seed, "distortions"))
    if inputs.masked:
        values[np.tile(np.isnan(train_y), (_COPIES, *(1 for _ in train_y.shape[1:])))] = np.nan
    values = view.seen(values, stream(seed, "observed corrupted"))
    of_corrupted, _ = features_at(inputs.forgiving(), values)
    usable = np.isfinite(of_corrupted).all(axis=1)
    examples = Examples(
        train=train,
        held_out=features_at(inputs, view.seen(held_out_y, stream(seed, "observed held out")))[0],
        corrupted=of_corrupted[usable],
        labels=labels[usable],
        kinds=kinds_of(scaler),
        learned=view.learned,
        located=located,
    )
    with torch_threads(1):
        detector = Detector.of(examples, seed, None if seconds is None else _seconds_of_critic(seconds))
    return replace(detector, patterns=Patterns.of(seen)) if inputs.masked else detector


def _in_order(inputs: Inputs) -> bool:
    """Whether y is one series, or a vector: such data have corruptions of their own. Others are taken as
    vectors.
    """
    return inputs.layout is None or [part.network for part in inputs.layout.parts] in (["series"], ["vector"])


def _complete(y: Shaped[np.ndarray, "n *event"]) -> Shaped[np.ndarray, "n *event"]:
    """The events, with the mean of an element where its value is missing."""
    missing = np.isnan(y)
    if not missing.any():
        return y
    there = np.where(missing.all(axis=0), 0.0, y)
    return np.where(missing, np.nanmean(there, axis=0), y)


def seconds_to_learn(network: Ensemble, inputs: Inputs, simulations: Simulations, seconds: float) -> float:
    """About how long `learn` will take in a fit of this many seconds, from the time of a few of its rows."""
    summary, rows = copy.deepcopy(network).double().summary, np.flatnonzero(simulations.ok)
    few = np.asarray(simulations.gather(rows[:_ROWS_TO_TIME])[1])
    began = time.monotonic()
    features(summary, inputs, few)
    per_row = (time.monotonic() - began) / len(few)
    most = min(_most_training(seconds), len(rows))
    seconds_of_features = per_row * ((1 + _COPIES) * most + min(_MOST_HELD_OUT, len(rows)))
    return seconds_of_features + _SECONDS_PER_PAIR * most**2 + _seconds_of_critic(seconds)


def _most_training(seconds: float | None) -> int:
    """How many simulations the critic learns from, each with `_COPIES` corrupted ones: about 5% of the
    time.
    """
    if seconds is None:
        return _MOST_TRAINING
    return int(np.clip(_TRAINING_PER_SECOND * seconds, _LEAST_TRAINING, _MOST_TRAINING))


def _seconds_of_critic(seconds: float) -> float:
    return max(_LEAST_SECONDS, min(_SHARE * seconds, _SECONDS_PER_ROW * (1 + _COPIES) * _MOST_TRAINING))


@torch.no_grad()
def features(
    summary: _Summary, inputs: Inputs, y: Shaped[np.ndarray, "n *event"]
) -> tuple[Float[np.ndarray, "n k"], int]:
    """What a detector looks at, and how many of the columns, the first, its cloud is of."""
    parts, located = [], 0
    for i in range(0, len(y), _ROWS_AT_ONCE):
        with np.errstate(all="ignore"):  # of declared summaries of corrupted data
            data = inputs(y[i : i + _ROWS_AT_ONCE]).parts
        summaries = summary(*map(torch.from_numpy, data))
        part, located = features_of(summaries, data[0], inputs)
        parts.append(part)
    return np.concatenate(parts), located
