"""p(model | y) by an ensemble of networks, calibrated on held-out simulations.

    minimise  -E log p_phi(k | y),   p_phi(k | y) = softmax(l_phi(s_phi(y)))

over simulations of all models. The minimiser is p(k | y) for the shares of the models among the simulations,
so

    log p(y | k) - log p(y | j) = (l_k - log share_k) - (l_j - log share_j)

at the minimum: log Bayes factors, to which prior probabilities of the models are added by Bayes (Cranmer,
Pavez & Louppe 2016, 1506.02169; Radev et al. 2021, 2004.10629, for model choice). The ensemble averages
logits. A temperature, or a temperature and biases, are taken over where they raise the log score of rows that
they were not fitted to.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from sbi_flows.comparison.models.pool import Pool
from sbi_flows.diagnostics.classification import ClassCalibration, Scaling, check_classes, mean_log_score
from sbi_flows.machine import torch_threads
from sbi_flows.misspecification.learn import View
from sbi_flows.nets.choice import summary_network
from sbi_flows.nets.inputs import Inputs
from sbi_flows.nets.layout import Layout
from sbi_flows.notes import Notes
from sbi_flows.npe.design import LINEAR_PATHS, MATRICES, joined_summaries, sized, summary_and_scaling
from sbi_flows.npe.request import Request, Sample
from sbi_flows.npe.settings import FitSettings, decay_factors, members_for, training_for
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.loop import TrainOptions, losses, train
from sbi_flows.training.rows import TensorRows

_LEAST_MEMBERS = 2
_SQUARES = 16
_ROWS_AT_ONCE = 2048


class ClassNetwork(nn.Module):
    """Logits (rows, classes) from s(y): a linear path, squares of linear combinations, and a layer of hidden
    units.

    Where models are Gaussian, logits are quadratic in y, also far out where few simulations lie.
    """

    def __init__(self, summary: nn.Module, features: int, width: int, classes: int) -> None:
        super().__init__()
        self.summary = summary
        self.linear = nn.Linear(features, classes)
        self.combined, self.squares = nn.Linear(features, _SQUARES), nn.Linear(_SQUARES, classes, bias=False)
        self.first, self.last = nn.Linear(features, width), nn.Linear(width, classes)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.squares.weight)

    def forward(self, *data: Float[Tensor, "rows ..."]) -> Float[Tensor, "rows classes"]:
        features = self.summary(*data)
        hidden = self.last(nn.functional.silu(self.first(features)))
        out: Tensor = self.linear(features) + self.squares(self.combined(features).square()) + hidden
        return out


@dataclass(frozen=True, eq=False)
class Ensemble:
    """members: networks in float64. inputs: what they take of y."""

    members: tuple[ClassNetwork, ...]
    inputs: Inputs

    def logits(self, y: Shaped[np.ndarray, "n *event"]) -> Float[np.ndarray, "members n k"]:
        """Of each member, with mean 0 over the models."""
        parts = []
        with torch.no_grad(), torch_threads(1):
            for i in range(0, len(y), _ROWS_AT_ONCE):
                data = [torch.from_numpy(part) for part in self.inputs(y[i : i + _ROWS_AT_ONCE]).parts]
                parts.append(np.stack([member(*data).numpy() for member in self.members]))
        return _centred(np.concatenate(parts, axis=1))

    def summary(self, *data: Tensor) -> Tensor:
        """s(y) of all members."""
        return torch.cat([member.summary(*data) for member in self.members], dim=-1)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained ensemble, scaled and tested.

    scaling: of the logits. log_shares (K,): of the models among the simulations. calibration: tests on
    held-out rows. check: the best scaling on the rows of the tests, whose distance from none is the error of
    calibration. unseen: places in the pool of rows that no network was trained on.
    """

    ensemble: Ensemble
    scaling: Scaling
    log_shares: Float[np.ndarray, " k"]
    calibration: ClassCalibration
    check: Scaling
    unseen: Int[np.ndarray, " u"]

    def log_evidence(
        self, y: Shaped[np.ndarray, "n *event"]
    ) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k k"]]:
        """log p(y | k) up to a constant of each row, in nats, and the covariance of its errors: of the
        members around their mean, and of the calibration.
        """
        logits = _centred(self.scaling(self.ensemble.logits(y)))
        mean = logits.mean(axis=0)
        apart = logits - mean
        spread = np.einsum("mnk,mnl->nkl", apart, apart) / max(len(logits) - 1, 1)
        return mean - self.log_shares, spread + np.stack([self._error(row) for row in mean])

    def _error(self, logits: Float[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
        """Of calibration: what the tests' own best scaling would change, or how well it is known where that
        is more.
        """
        shift = _centred(self.check(logits[None]))[0] - _centred(logits[None])[0]
        known, found = self.check.errors(logits), np.outer(shift, shift)
        return known if np.trace(known) >= np.trace(found) else found

    def view(self) -> View:
        """What the networks see, for a detector of unusual data."""
        learned = sum(member.linear.in_features for member in self.ensemble.members)
        return View(self.ensemble.summary, self.ensemble.inputs, learned)


@dataclass(frozen=True, eq=False)
class _Training:
    """What is decided before training."""

    inputs: Inputs
    kind: str
    settings: FitSettings
    seed: int

    def member(self, k: int, classes: int) -> ClassNetwork:
        """Untrained member k."""
        _, width, features = self.settings.built
        layout = self.inputs.layout or Layout.plain(self.kind, self.inputs.scaler)
        declared = self.inputs.shapes[1] if len(self.inputs.shapes) > 1 else ()
        with torch_scope(stream(self.seed, "weights of the classifier", k)):
            return ClassNetwork(summary_network(layout, declared, features, width), features, width, classes)


def learn_classifier(pool: Pool, request: Request, notes: Notes, seconds: float | None = None) -> Classifier:
    """Train on the training rows of the pool, and test on those held out. seconds: of all of it, by the
    clock.

    request: events, declared summaries that all models share, settings and seed. Raises what `train` and
    `Scaler.from_data` raise.
    """
    y, labels = pool.y[pool.training], pool.labels[pool.training]
    sample = Sample.of(np.zeros((len(y), 1)), y, request)
    kind, scaler, layout = summary_and_scaling(request, y, notes)
    inputs = Inputs(scaler, joined_summaries(request, sample, notes), layout)
    classes = len(pool.counts)
    asked = request.settings
    members = asked.members or max(_LEAST_MEMBERS, members_for(len(y)))
    training = asked.train or training_for(len(y), timed=seconds is not None, kind=kind)
    settings = replace(sized(asked, classes, kind, seconds is not None, notes), summary=kind, train=training)
    plan = _Training(inputs, kind, settings, request.seed)
    parts = [torch.from_numpy(part) for part in inputs.in_float32(y, sample.t)]
    rows = TensorRows([torch.from_numpy(labels), *parts], training, request.seed)
    factors = [1.0] * members if asked.train is not None else decay_factors(members)
    networks = []
    for k, factor in enumerate(factors):
        network = plan.member(k, classes)
        options = TrainOptions(
            undecayed=LINEAR_PATHS,
            matrices=MATRICES,
            decay=factor,
            limit_seconds=None if seconds is None else seconds / members,
            progress=request.progress,
        )
        with torch_threads(1):
            train(network, _cross_entropy, rows, options)
            loss = float(losses(network, _cross_entropy, rows.valid).mean())
        notes.note("classifier trained", network=k + 1, networks=members, loss=loss)
        networks.append(copy.deepcopy(network).double().eval().requires_grad_(False))
    return _calibrated(Ensemble(tuple(networks), inputs), pool, rows.valid_rows, notes)


def _calibrated(
    ensemble: Ensemble, pool: Pool, valid_rows: Int[np.ndarray, " v"], notes: Notes
) -> Classifier:
    """Scaled by the rows on which training was validated, and tested on those held out."""
    valid, test = pool.training[valid_rows], pool.held_out
    scaling = _chosen_scaling(ensemble.logits(pool.y[valid]).mean(axis=0), pool.labels[valid], notes)
    logits = scaling(ensemble.logits(pool.y[test])).mean(axis=0)
    shares = np.log(pool.counts / pool.counts.sum())
    tested, best = check_classes(logits, pool.labels[test]), Scaling.of(logits, pool.labels[test])
    return Classifier(ensemble, scaling, shares, tested, best, np.concatenate([test, valid]))


def _chosen_scaling(logits: Float[np.ndarray, "m k"], labels: Int[np.ndarray, " m"], notes: Notes) -> Scaling:
    """None, a temperature, or a temperature and biases: the one of the best log score on rows that it was not
    fitted to, in two halves.
    """
    k, half = logits.shape[1], np.arange(len(labels)) % 2 == 0
    scores = {"none": mean_log_score(logits, labels)}
    for name, biases in (("temperature", False), ("temperature and biases", True)):
        each = [
            mean_log_score(
                Scaling.of(logits[~part], labels[~part], biases=biases)(logits[part]), labels[part]
            )
            for part in (half, ~half)
        ]
        scores[name] = float(np.mean(each))
    best = max(scores, key=lambda name: scores[name])
    found = (
        Scaling.none(k)
        if best == "none"
        else Scaling.of(logits, labels, biases=best == "temperature and biases")
    )
    temperature = float(1 / found.numbers[0])
    notes.note("classifier scaled", how=best, temperature=temperature, gain=scores[best] - scores["none"])
    return found


def _cross_entropy(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    labels, *data = batch
    return nn.functional.cross_entropy(module(*data), labels, reduction="none")


def _centred(logits: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(logits - logits.mean(axis=-1, keepdims=True))
