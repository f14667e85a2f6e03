"""q(theta | y) for any y, with a verdict on each: what every use of a fit builds on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sbi_flows.arrays import F, integer
from sbi_flows.diagnostics.recovery import Gain
from sbi_flows.draws import Draws
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.machine import free_memory, torch_defaults
from sbi_flows.misspecification.detector import Detector
from sbi_flows.misspecification.features import features_of
from sbi_flows.nets.inputs import Inputs
from sbi_flows.nets.scaling import Scaler
from sbi_flows.notes import Note
from sbi_flows.npe.network import Ensemble
from sbi_flows.npe.settings import FitSettings
from sbi_flows.posterior.density import Density
from sbi_flows.posterior.unresolved import Unresolved
from sbi_flows.problem.events import Events
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.patterns import Observe
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import check_seed
from sbi_flows.training.history import History
from sbi_flows.verdict import Verdict, worst

_ERRORS = 3.0
_ALWAYS_FREE = 100_000_000


@dataclass(frozen=True, eq=False)
class Amortised:
    """What a fit found, with draws, densities and verdicts of any y: `Posterior` without files and refining.

    made_of: what y is; None where nothing but its shape is known. observe: the patterns of gaps and lengths
    that it was trained for.
    noise_shift, noise_scale: mean and sd of the noise after `sf.recalibrate`, else None.
    unresolved: parameters of which the network is known to lose what the data tell; None if there are none.
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
    unresolved: Unresolved | None = None
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
    def density(self) -> Density:
        """q(theta | y) in float64."""
        return self._density

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
        n = draws_that_fit(n, len(stack) * self.prior.d)
        contexts, verdicts = self._judged(stack)
        theta = self._density.draw(contexts, n, seed)
        facts = {name: self.facts[name] for name in ("simulations", "simulator")}
        if self.declared_summaries:
            facts["declared_summaries"] = self.declared_summaries
        values = theta[0] if single else theta
        facts["seed"] = seed
        draws = Draws.of(self.prior, values, worst(verdicts), "neural posterior", facts=facts)
        return replace(draws, verdicts=tuple(verdicts))

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
    def summaries_of(self, y: F) -> F:
        """s(y) of a stack of m events as they travel, without checks, (m, k)."""
        return np.asarray(self._density.contexts(y).numpy())

    @torch_defaults()
    def draws_of(self, y: F, n: int, seed: int) -> F:
        """n draws for each of m events as they travel, without checks or verdicts, (m, n, d)."""
        return self._density.draw(self._density.contexts(y), n, seed)

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
        return tuple(self._judged(self._stack(y_obs)[0])[1])

    @torch_defaults()
    def verdict_on_data(self, y: F) -> Verdict:
        """Whether y (*event,) looks like the simulations, whatever the fit learned of them."""
        return self._recognised(y[None])[1][0]

    @torch_defaults()
    def sample_members(self, y_obs: Any, n: int, *, seed: int = 0) -> F:
        """n draws of one observation from each network of the ensemble alone, (members, n, d).

        Raises `ShapeError`, `ObservationError` and `SettingsError`.
        """
        seed = check_seed(seed)
        values = as_observation(y_obs, self.events)
        n = draws_that_fit(n, len(self.estimator.members) * self.prior.d)
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
        """The summaries of a stack, and the verdict on the data of each event."""
        contexts, verdicts = [], []
        for part in self._density.summarised(stack):
            contexts.append(part.summaries)
            features, _ = features_of(part.summaries, part.seen.parts[0], self.inputs)
            unlike = [self.scaler.unlike(part.events), part.seen.missing]
            if self.detector.patterns is not None:
                unlike.append(self.detector.patterns.unlike(part.events))
            verdicts += self.detector.verdicts(features, np.column_stack(unlike))
        return torch.cat(contexts), verdicts

    def _judged(self, stack: F) -> tuple[Tensor, list[Verdict]]:
        """The summaries of a stack, and the verdict on each answer."""
        contexts, verdicts = self._recognised(stack)
        lost = [None] * len(stack) if self.unresolved is None else self.unresolved.at(contexts.numpy())
        return contexts, [self._covering(*pair) for pair in zip(verdicts, lost, strict=True)]

    def _covering(self, verdict: Verdict, lost: Note | None) -> Verdict:
        """The verdict with what it covers: the data alone, and how much the fit learned. It is never better
        than "caution" where that is nothing, or less than the data tell (lost).
        """
        gain, error = (float(self.facts.get(name, np.nan)) for name in ("gain", "gain_error"))
        if not np.isfinite(gain):
            return verdict
        if nothing_learned(Gain(gain, error)):
            level = verdict.level if verdict.level != "trust" else "caution"
            return replace(
                verdict,
                level=level,
                of_data=verdict.level,
                text=f"{verdict.text} But {Note('nothing learned', gain=gain, error=error)}.",
            )
        if lost is not None and verdict.level != "do not trust":
            text = f"{verdict.text} But {lost}."
            return replace(verdict, level="caution", of_data=verdict.level, text=text)
        if verdict.level != "trust":
            return verdict
        return replace(verdict, text=f"{verdict.text} {Note('verdict covers', gain=gain)}")

    @property
    def recalibrated(self) -> bool:
        """Whether `sf.recalibrate` changed the noise."""
        return self.noise_shift is not None


def nothing_learned(gain: Gain) -> bool:
    """Whether the held-out log density is not above the prior's by three standard errors."""
    return bool(np.isfinite(gain.mean) and gain.mean <= _ERRORS * gain.error)


def draws_that_fit(n: int, numbers_per_draw: int) -> int:
    """n, if it is a positive integer and n draws of that many float64 fit into the free memory."""
    wanted = 8 * integer("n", n) * numbers_per_draw
    if wanted > _ALWAYS_FREE and wanted > (free := free_memory()):
        raise SettingsError(
            f"n={n:,} draws would take {wanted / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free. Draw "
            f"fewer at a time."
        )
    return int(n)
