"""The amortised posterior: q(theta | y) for any y, with a verdict on each."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_flows.arrays import F, integer
from sbi_flows.diagnostics.recovery import Gain
from sbi_flows.draws import Draws, groups_of
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.files import Leaves, ModelFormat
from sbi_flows.flows.layers import has_free_ends
from sbi_flows.machine import free_memory, torch_defaults
from sbi_flows.misspecification.detector import Detector
from sbi_flows.misspecification.features import features_of
from sbi_flows.nets.encoder import EncodedSummary, TrainedEncoder
from sbi_flows.nets.inputs import Inputs
from sbi_flows.nets.own import OwnSummary
from sbi_flows.nets.scaling import Scaler
from sbi_flows.notes import Note
from sbi_flows.npe.network import Ensemble
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.density import Density
from sbi_flows.problem.events import Events
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.patterns import Observe
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.training.history import History
from sbi_flows.verdict import Verdict, worst

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
_ERRORS = 3.0
_ALWAYS_FREE = 100_000_000


@dataclass(frozen=True, eq=False)
class Posterior:
    """An amortised posterior. Made by `sf.fit` and `sf.load`.

    notes: what was chosen and why, each a sentence with a `kind` and `values`.
    facts: simulator name, simulations used (trained on or held out), seed, package versions.
    history: the loss per epoch, in nats of the standardised parameters, of the first network: -log q, and for
        flow matching a bound on it.
    seconds: how long simulating and training took, where this process did it.
    made_of: what y is; None where nothing but its shape is known. observe: the patterns of gaps and lengths
    that it was trained for.
    noise_shift, noise_scale: mean and sd of the noise after `sf.recalibrate`, else None.
    """

    prior: Prior
    event_shape: tuple[int, ...]
    estimator: Ensemble
    inputs: Inputs
    centre: F
    scale: F
    detector: Detector
    settings: FitSettings
    history: History
    facts: Mapping[str, Any]
    notes: tuple[Note, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    noise_shift: F | None = None
    noise_scale: F | None = None
    made_of: Events | None = None
    observe: Observe | None = None
    _density: Density = field(init=False, repr=False)

    @torch_defaults()
    def __post_init__(self) -> None:
        network = copy.deepcopy(self.estimator).double().eval().requires_grad_(False)
        parts = self.inputs, self.centre, self.scale, self.noise_shift, self.noise_scale
        object.__setattr__(self, "_density", Density(self.prior, network, *parts))

    def __repr__(self) -> str:
        source = f"{self.facts['simulations']:,} simulations of {self.facts['simulator']!r}"
        k = self.declared_summaries
        joined = f" and {k} declared {'summary' if k == 1 else 'summaries'}" if k else ""
        gaps = ", gaps allowed" if self.events.missing else ""
        return f"Posterior({', '.join(self.names)} | y of {self.events.describe()}{gaps}{joined}; {source})"

    @property
    def events(self) -> Events:
        """What one y is made of, and whether values may be missing."""
        return self.made_of or Events.plain(self.event_shape)

    @property
    def scaler(self) -> Scaler:
        """The scaling of y."""
        return self.inputs.scaler

    @property
    def declared_summaries(self) -> int:
        """How many summaries, declared by the simulator, join the input of the networks."""
        declared = self.inputs.declared
        return 0 if declared is None else int(declared.scaler.keep.sum())

    @property
    def names(self) -> tuple[str, ...]:
        """One label for each column of theta."""
        return self.prior.names

    @torch_defaults()
    def sample(self, y_obs: Any, n: int = 4_000, *, seed: int = 0) -> Draws:
        """`n` draws from q(theta | y_obs), with the verdict on y_obs.

        y_obs: one event, or a stack (m, *event_shape) for draws of shape (m, n, d); a list of events, also of
            unequal lengths, is a stack. Observation i of a stack is drawn from the stream (seed, i), so the
            first has the same draws alone. NaN, None and masked entries are not observed.

        Raises `ShapeError` and `ObservationError` for data that do not fit, and `SettingsError` for an n that
        is not a positive integer, or whose draws would not fit into the free memory.
        """
        seed = check_seed(seed)
        stack, single = self._stack(y_obs)
        n = _draws_that_fit(n, len(stack) * self.prior.d)
        contexts, verdicts = self._recognised(stack)
        theta = self._density.draw(contexts, n, seed)
        scalars = {name: marginal.scalar for name, marginal in self.prior.marginals.items()}
        facts = {name: self.facts[name] for name in ("simulations", "simulator")}
        if self.declared_summaries:
            facts["declared_summaries"] = self.declared_summaries
        return Draws(
            values=theta[0] if single else theta,
            groups=groups_of(self.prior.slices, scalars),
            names=self.names,
            labels=self.prior.labels,
            verdict=worst(verdicts),
            origin="neural posterior",
            verdicts=tuple(verdicts),
            facts={**facts, "seed": seed},
        )

    @torch_defaults()
    def log_prob(self, theta: ArrayLike | Mapping[str, ArrayLike], y_obs: Any) -> F:
        """log q(theta | y_obs) in nats, on the original scale of theta, -inf outside the prior's support.

        One event: theta (..., d) -> (...). A stack of m: theta (m, d), one row per event, -> (m,); or (m, n,
        d) -> (m, n).
        """
        stack, single = self._stack(y_obs)
        rows = self.prior.as_array(theta)
        if np.isnan(rows).any():
            raise ShapeError(f"theta holds {int(np.isnan(rows).sum())} NaN values; log_prob needs numbers.")
        if not single and (rows.ndim not in (2, 3) or len(rows) != len(stack)):
            raise ShapeError(
                f"for a stack of {len(stack)} events theta must have shape ({len(stack)}, d) or "
                f"({len(stack)}, n, d), got {rows.shape}."
            )
        found = self._density.log_prob(
            rows.reshape(len(stack), -1, self.prior.d), self._density.contexts(stack)
        )
        return np.asarray(found.reshape(rows.shape[:-1]))

    @torch_defaults()
    def log_prob_of(self, theta: F, y: F) -> F:
        """log q(theta_i | y_i) of m rows and a stack of m events as they travel, without checks, (m,)."""
        return np.asarray(self._density.log_prob(theta[:, None], self._density.contexts(y))[:, 0])

    @torch_defaults()
    def summaries(self, y_obs: Any) -> F:
        """s(y), what the networks learned to look at, for use in ABC: (k,) for one event, (m, k) for a stack.

        Raises `ShapeError` and `ObservationError`.
        """
        stack, single = self._stack(y_obs)
        found = self._density.contexts(stack).numpy()
        return np.asarray(found[0] if single else found)

    @torch_defaults()
    def verdicts(self, y_obs: Any) -> tuple[Verdict, ...]:
        """The verdict on each event of a stack, or on one event, without drawing."""
        return tuple(self._recognised(self._stack(y_obs)[0])[1])

    @torch_defaults()
    def sample_members(self, y_obs: Any, n: int, *, seed: int = 0) -> F:
        """n draws of one observation from each network of the ensemble alone, (members, n, d).

        Raises `ShapeError`, `ObservationError` and `SettingsError`.
        """
        seed = check_seed(seed)
        values = as_observation(y_obs, self.events)
        n = _draws_that_fit(n, len(self.estimator.members) * self.prior.d)
        return self._density.draw_members(self._density.contexts(values[None]), n, seed)

    @torch_defaults()
    def noise(self, theta: F, y: F) -> tuple[F, F]:
        """zeta of each row by each network, (members, m, u), and log(w |det dzeta/dtheta|), (members, m), w
        its mixture weight.

        theta (m, d) must lie inside the prior's support; y is a stack of m events.
        """
        return self._density.noise(theta, self._density.contexts(y))

    def _stack(self, y_obs: Any) -> tuple[F, bool]:
        """The data as a stack of events, and whether they were one event."""
        values = as_observation(y_obs, self.events, stack=True)
        single = values.ndim == len(self.event_shape)
        return values[None] if single else values, single

    def _recognised(self, stack: F) -> tuple[Tensor, list[Verdict]]:
        """The summaries of a stack, and the verdict on each event."""
        contexts, verdicts = [], []
        for part in self._density.summarised(stack):
            contexts.append(part.summaries)
            features, _ = features_of(part.summaries, part.seen.parts[0], self.inputs)
            unlike = [self.scaler.unlike(part.events), part.seen.missing]
            if self.detector.patterns is not None:
                unlike.append(self.detector.patterns.unlike(part.events))
            verdicts += self.detector.verdicts(features, np.column_stack(unlike))
        return torch.cat(contexts), [self._covering(verdict) for verdict in verdicts]

    def _covering(self, verdict: Verdict) -> Verdict:
        """The verdict with what it covers: the data alone, and how much the fit learned. It is never better
        than "caution" where that is nothing.
        """
        gain, error = (float(self.facts.get(name, np.nan)) for name in ("gain", "gain_error"))
        if not np.isfinite(gain):
            return verdict
        if nothing_learned(Gain(gain, error)):
            level = verdict.level if verdict.level != "trust" else "caution"
            return replace(
                verdict,
                level=level,
                text=f"{verdict.text} But {Note('nothing learned', gain=gain, error=error)}.",
            )
        if verdict.level != "trust":
            return verdict
        return replace(verdict, text=f"{verdict.text} {Note('verdict covers', gain=gain)}")

    @torch_defaults()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior to one file, whole or not at all. The bytes depend on the posterior alone."""
        theta = self.prior.sample(_CHECKED, stream(0, "canary"))
        y = stream(0, "canary", 1).uniform(0, 10, (_CHECKED, *self.event_shape)).round()
        declared = self.inputs.declared
        if declared is not None:
            y = declared.examples
            theta = theta[: len(y)]
        elif self.events.missing:
            y[1::2][stream(0, "canary", 2).random(y[1::2].shape) < _MISSING_OF_CHECKED] = np.nan
        leaves: dict[str, Leaves] = {
            "net": self.estimator.state_dict(),
            "scaler": self.scaler.arrays(),
            "recognition": self.detector.arrays(),
            "theta": {"centre": self.centre, "scale": self.scale},
            "noise": {"shift": self.noise_shift, "scale": self.noise_scale} if self.recalibrated else {},
        }
        if declared is not None:
            leaves["declared"] = declared.arrays()
        checks = {"theta": theta, "y": y, "log_prob": self.log_prob_of(theta, y)}
        POSTERIOR_FILE.save(path, self._record(), leaves, checks)

    def _record(self) -> dict[str, Any]:
        """All that is not a leaf, as JSON."""
        encoders = [part for part in self.estimator.modules() if isinstance(part, EncodedSummary)]
        settings = self.settings.to_json()
        plain = self.inputs.declared is None and "declared_summaries" not in settings
        of_y = self._record_of_y()
        older = _WITHOUT_SUMMARIES if plain else _PINNED
        version = _ONE_ARRAY if has_free_ends(self.estimator.state_dict()) else older
        return {
            **(of_y or {"format_version": version}),
            "prior": self.prior.to_json(maps=True),
            "event_shape": list(self.event_shape),
            "series": self.scaler.shared,
            "encoder": TrainedEncoder(encoders[0].encoder, self.scaler).sizes if encoders else None,
            "settings": settings,
            "history": asdict(self.history),
            "facts": dict(self.facts),
            "distortions": list(self.detector.kinds),
            "notes": [note.to_json() for note in self.notes],
        }

    def _record_of_y(self) -> dict[str, Any]:
        """What y is, and what of it is observed, as JSON; empty for one complete array of which nothing is
        declared.
        """
        own = [part for part in self.estimator.modules() if isinstance(part, OwnSummary)]
        layout = self.inputs.layout
        return {
            **({} if layout is None else {"layout": layout.to_json()}),
            **({} if self.events.is_plain else {"events": self.events.to_json()}),
            **({} if self.observe is None else {"observe": self.observe.to_json()}),
            **({"own": type(own[0].module).__name__} if own else {}),
        }

    @property
    def recalibrated(self) -> bool:
        """Whether `sf.recalibrate` changed the noise."""
        return self.noise_shift is not None


def nothing_learned(gain: Gain) -> bool:
    """Whether the held-out log density is not above the prior's by three standard errors."""
    return bool(np.isfinite(gain.mean) and gain.mean <= _ERRORS * gain.error)


def _draws_that_fit(n: int, numbers_per_draw: int) -> int:
    """n, if it is a positive integer and n draws of that many float64 fit into the free memory."""
    wanted = 8 * integer("n", n) * numbers_per_draw
    if wanted > _ALWAYS_FREE and wanted > (free := free_memory()):
        raise SettingsError(
            f"n={n:,} draws would take {wanted / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free. Draw "
            f"fewer at a time."
        )
    return int(n)


def check_pair(posterior: Posterior, simulator: Simulator, who: str) -> None:
    """Raise `SettingsError` unless `posterior` has the face of one, and `simulator` has its prior and shape
    of data.
    """
    if not all(hasattr(posterior, name) for name in ("sample", "log_prob", "prior", "event_shape")):
        hint = f" Load it first: sf.load({posterior!r})." if isinstance(posterior, str | os.PathLike) else ""
        raise SettingsError(
            f"{who} takes a posterior from sf.fit or sf.load, got {type(posterior).__name__}.{hint}"
        )
    if not isinstance(simulator, Simulator):
        raise SettingsError(
            f"{who} takes a simulator made with @sf.simulator(prior), got {type(simulator).__name__}."
        )
    events = getattr(posterior, "events", None) or Events.plain(posterior.event_shape)
    if simulator.prior != posterior.prior or not events.same_arrays(simulator.events):
        raise SettingsError(
            f"the posterior was trained on {posterior.facts['simulator']!r} with {posterior.prior} and "
            f"events {events.describe()}; the simulator passed is {simulator.name!r} with "
            f"{simulator.prior} and events {simulator.events.describe()}. Pass the one it was trained on."
        )
