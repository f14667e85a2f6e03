"""The amortised posterior: q(theta | y) for any y, with a verdict on each.

    theta = T^-1(m + c u),   u = flow^-1(zeta; s(y)),   zeta ~ N(0, I)
    log q(theta | y) = log q_flow(u | s(y)) - sum log c + log |det dT/dtheta|

After `sf.recalibrate`, zeta ~ N(b, diag(a^2)) in the place of N(0, I), in the density as in the draws.

Inference runs in float64, so that spline inverses are exact to rounding and a row gives the same number alone
or in a batch. There is
no rejection step: T^-1 ends inside the prior's support whatever u is, and q integrates to one over that
support.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from sbi_flows.arrays import integer
from sbi_flows.draws import Draws, groups_of
from sbi_flows.errors import ObservationError, SettingsError, ShapeError
from sbi_flows.files import Leaves, ModelFormat
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.machine import free_memory
from sbi_flows.misspecification.detector import Recognition, recognition_features
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.summary import EncodedSummary, Learned
from sbi_flows.notes import Note
from sbi_flows.npe.network import Ensemble, log_mixture
from sbi_flows.npe.settings import FitSettings
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.simulator import Simulator, as_observation
from sbi_flows.rng import check_seed, stream
from sbi_flows.training.history import History
from sbi_flows.verdict import Verdict, worst

POSTERIOR_FILE = ModelFormat(
    kind="posterior",
    loader="sf.load",
    newest=6,
    oldest=5,
    advice="Earlier posteriors had no screen of columns, no critic, another training cloud, or other masks. "
    "Fit again: "
    "sf.fit(...) on the same simulations, or `sbi-flows fit`.",
    tolerance=1e-4,
)
_CHECKED = 8
_DRAWS_AT_ONCE = 8192
_DENSITIES_AT_ONCE = 2048
_EVENTS_AT_ONCE = 1024
_TOO_LARGE = 1e304  # beyond it sums of the network leave floating point
_ALWAYS_FREE = 100_000_000


@dataclass(frozen=True, eq=False)
class Posterior:
    """An amortised posterior. Made by `sf.fit` and `sf.load`.

    notes: what was chosen and why; facts: simulator name, simulations used (trained on or kept apart), seed,
    package versions; history: the loss by epoch, in nats of the standardised parameters, of the first member
    of an ensemble; seconds: how long simulating and training took, where this process did it; noise_shift,
    noise_scale: b and a above, None where it was not recalibrated.
    """

    prior: Prior
    event_shape: tuple[int, ...]
    estimator: Ensemble
    scaler: Scaler
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    recognition: Recognition
    settings: FitSettings
    history: History
    facts: Mapping[str, Any]
    notes: tuple[Note, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    noise_shift: NDArray[np.float64] | None = None
    noise_scale: NDArray[np.float64] | None = None
    _double: Ensemble = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "_double", copy.deepcopy(self.estimator).double().eval().requires_grad_(False)
        )

    def __repr__(self) -> str:
        source = f"{self.facts['simulations']:,} simulations of {self.facts['simulator']!r}"
        return f"Posterior({', '.join(self.names)} | y of shape {self.event_shape}; {source})"

    @property
    def names(self) -> tuple[str, ...]:
        """One label for each column of theta."""
        return self.prior.names

    def sample(self, y_obs: ArrayLike, n: int = 4_000, *, seed: int = 0) -> Draws:
        """`n` draws from q(theta | y_obs), with the verdict on y_obs.

        y_obs: one event, or a stack (m, *event_shape) for draws of shape (m, n, d); observation i of a stack
        is drawn from the stream (seed, i), so the first has the same draws alone. Raises `ShapeError` and
        `ObservationError` for data that do not fit, `SettingsError` for an n that is no positive integer, or
        whose draws would not fit into the free memory.
        """
        seed = check_seed(seed)
        values = as_observation(y_obs, self.event_shape, stack=True)
        single = values.ndim == len(self.event_shape)
        stack = values[None] if single else values
        n = _draws_that_fit(n, len(stack) * self.prior.d)
        contexts, verdicts = self._contexts(stack)
        theta = self._draw(contexts, n, seed)
        scalars = {name: marginal.scalar for name, marginal in self.prior.marginals.items()}
        return Draws(
            values=theta[0] if single else theta,
            groups=groups_of(self.prior.slices, scalars),
            names=self.names,
            verdict=worst(verdicts),
            origin="neural posterior",
            verdicts=tuple(verdicts),
            facts={
                "simulations": self.facts["simulations"],
                "simulator": self.facts["simulator"],
                "seed": seed,
            },
        )

    def log_prob(self, theta: ArrayLike | Mapping[str, ArrayLike], y_obs: ArrayLike) -> NDArray[np.float64]:
        """log q(theta | y_obs) in nats, on the original scale of theta, -inf outside the prior's support.

        One event: theta (..., d) -> (...). A stack of m: theta (m, d), one row an event, -> (m,); or (m, n,
        d) -> (m, n).
        """
        values = as_observation(y_obs, self.event_shape, stack=True)
        rows = self.prior.as_array(theta)
        if np.isnan(rows).any():
            raise ShapeError(f"theta holds {int(np.isnan(rows).sum())} NaN values; log_prob needs numbers.")
        if values.ndim == len(self.event_shape):
            flat = rows.reshape(1, -1, self.prior.d)
            return self._log_prob(flat, values[None]).reshape(rows.shape[:-1])
        if rows.ndim not in (2, 3) or len(rows) != len(values):
            raise ShapeError(
                f"for a stack of {len(values)} events theta must have shape ({len(values)}, d) or "
                f"({len(values)}, n, d), got {rows.shape}."
            )
        return self._log_prob(rows.reshape(len(values), -1, self.prior.d), values).reshape(rows.shape[:-1])

    def verdicts(self, y_obs: ArrayLike) -> tuple[Verdict, ...]:
        """The verdict on each event of a stack, or on one event, without drawing."""
        values = as_observation(y_obs, self.event_shape, stack=True)
        return tuple(self._contexts(values[None] if values.ndim == len(self.event_shape) else values)[1])

    def sample_members(self, y_obs: ArrayLike, n: int, *, seed: int = 0) -> NDArray[np.float64]:
        """n draws of one observation from each network of an ensemble alone, (members, n, d).

        Raises `ShapeError`, `ObservationError` and `SettingsError`.
        """
        seed = check_seed(seed)
        values = as_observation(y_obs, self.event_shape)
        n = _draws_that_fit(n, len(self._double.flows()) * self.prior.d)
        contexts, _ = self._contexts(values[None], judge=False)
        flows = self._double.flows()
        theta = np.empty((len(flows), n, self.prior.d))
        for k, (flow, part) in enumerate(zip(flows, contexts.chunk(len(flows), dim=-1), strict=True)):
            self._draw_from(flow, part, theta[None, k], seed, f"member {k}")
        return theta

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the posterior to one file, whole or not at all. The bytes depend on the posterior alone."""
        theta = self.prior.sample(_CHECKED, stream(0, "canary"))
        y = stream(0, "canary", 1).uniform(0, 10, (_CHECKED, *self.event_shape)).round()
        leaves: dict[str, Leaves] = {
            "net": self.estimator.state_dict(),
            "scaler": self.scaler.arrays(),
            "recognition": self.recognition.arrays(),
            "theta": {"centre": self.centre, "scale": self.scale},
            "noise": {"shift": self.noise_shift, "scale": self.noise_scale} if self.recalibrated else {},
        }
        checks = {"theta": theta, "y": y, "log_prob": self.log_prob(theta, y)}
        POSTERIOR_FILE.save(path, self._record(), leaves, checks)

    def _record(self) -> dict[str, Any]:
        """All that is not a leaf, as JSON."""
        encoders = [part for part in self.estimator.modules() if isinstance(part, EncodedSummary)]
        return {
            "prior": self.prior.to_json(),
            "event_shape": list(self.event_shape),
            "series": self.scaler.shared,
            "encoder": Learned(encoders[0].encoder, self.scaler).sizes if encoders else None,
            "settings": self.settings.to_json(),
            "history": asdict(self.history),
            "facts": dict(self.facts),
            "distortions": list(self.recognition.kinds),
            "notes": [note.to_json() for note in self.notes],
        }

    @property
    def recalibrated(self) -> bool:
        """Whether `sf.recalibrate` changed the noise."""
        return self.noise_shift is not None

    @torch.no_grad()
    def _contexts(
        self, stack: Float[np.ndarray, "m *event"], judge: bool = True
    ) -> tuple[torch.Tensor, list[Verdict]]:
        contexts, verdicts = [], []
        for start in range(0, len(stack), _EVENTS_AT_ONCE):
            part = stack[start : start + _EVENTS_AT_ONCE]
            with np.errstate(over="ignore", invalid="ignore"):
                scaled = self.scaler(part)
            if not (np.abs(scaled) < _TOO_LARGE).all():
                raise ObservationError(
                    "the observed data are too large to be scaled in floating point. Check their units."
                )
            contexts.append(self._double.summary(torch.from_numpy(scaled)))
            if judge:
                features, _ = recognition_features(contexts[-1], scaled, self.scaler)
                verdicts += self.recognition.judge(features, self.scaler.unlike(part))
        return torch.cat(contexts), verdicts

    def _draw(self, contexts: torch.Tensor, n: int, seed: int) -> Float[np.ndarray, "m n d"]:
        """n draws for each context: of an ensemble n w_k from member k, rounded up or down at random, in
        random order.
        """
        flows, weights = self._double.flows(), self._double.mixture_weights.numpy().astype(np.float64)
        expected = n * weights / weights.sum()
        drawn = np.ceil(expected).astype(int)
        ends = drawn.cumsum()
        theta = np.empty((len(contexts), ends[-1], self.prior.d))
        for k, (flow, part) in enumerate(zip(flows, contexts.chunk(len(flows), dim=-1), strict=True)):
            self._draw_from(
                flow, part, theta[:, ends[k] - drawn[k] : ends[k]], seed, f"sample {k}" if k else "sample"
            )
        if len(flows) == 1:
            return theta
        kept, surplus = np.empty((len(theta), n, self.prior.d)), (drawn - expected).cumsum()
        surplus[-1] = ends[-1] - n
        for i, rows in enumerate(theta):
            rng = stream(seed, "order", i)
            passed = np.diff(np.floor(surplus + rng.random()), prepend=0) > 0
            kept[i] = rng.permutation(np.delete(rows, ends[passed] - 1, axis=0))
        return kept

    @torch.no_grad()
    def _draw_from(
        self,
        flow: ConditionalFlow,
        contexts: torch.Tensor,
        theta: Float[np.ndarray, "m n d"],
        seed: int,
        name: str,
    ) -> None:
        for events, rows in _blocks(len(theta), theta.shape[1], _DRAWS_AT_ONCE):
            if rows.start == 0:
                streams = [stream(seed, name, i) for i in range(events.start, events.stop)]
            noise = np.empty((len(streams), rows.stop - rows.start, self.prior.unconstrained_dim))
            for part, rng in zip(noise, streams, strict=True):
                rng.standard_normal(out=part)
            if self.noise_shift is not None and self.noise_scale is not None:
                noise = self.noise_shift + self.noise_scale * noise
            u = flow.value(torch.from_numpy(noise), contexts[events, None])
            theta[events, rows] = self.prior.from_unconstrained(self.centre + self.scale * u.numpy())

    @torch.no_grad()
    def _log_prob(
        self, theta: Float[np.ndarray, "m n d"], stack: Float[np.ndarray, "m *event"]
    ) -> NDArray[np.float64]:
        m, n, _ = theta.shape
        contexts, _ = self._contexts(stack, judge=False)
        flows = self._double.flows()
        parts = contexts.chunk(len(flows), dim=-1)
        log_prob = np.empty((m, n))
        for events, rows in _blocks(m, n, _DENSITIES_AT_ONCE):
            part = theta[events, rows]
            inside = self.prior.inside(part)
            z, log_det = self.prior.to_unconstrained(np.where(inside[..., None], part, self._inner_point()))
            inside &= np.isfinite(z).all(axis=-1)
            u = torch.from_numpy(np.where(inside[..., None], (z - self.centre) / self.scale, 0.0))
            each = [
                self._of_flow(flow, u, part[events, None]) for flow, part in zip(flows, parts, strict=True)
            ]
            of_flow = log_mixture(each, self._double.mixture_weights).numpy()
            log_prob[events, rows] = np.where(inside, of_flow + log_det, -np.inf)
        log_prob -= np.log(self.scale).sum()
        return log_prob

    def _of_flow(self, flow: ConditionalFlow, u: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        if self.noise_shift is None or self.noise_scale is None:
            return flow.log_prob(u, context)
        zeta, log_det = flow.to_noise(u, context)
        standard = (zeta - torch.from_numpy(self.noise_shift)) / torch.from_numpy(self.noise_scale)
        constant = float(np.log(self.noise_scale).sum()) + 0.5 * len(self.noise_scale) * math.log(2 * math.pi)
        return log_det - 0.5 * standard.square().sum(dim=-1) - constant

    @torch.no_grad()
    def noise(
        self, theta: Float[np.ndarray, "m d"], y: Float[np.ndarray, "m *event"]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """zeta of each row by each network, (members, m, u), and log(w |det dzeta/dtheta|), (members, m), w
        the network's share.

        theta must lie inside the prior's support.
        """
        contexts, _ = self._contexts(y, judge=False)
        z, log_det = self.prior.to_unconstrained(theta)
        u = torch.from_numpy((z - self.centre) / self.scale)
        flows = self._double.flows()
        found = [
            flow.to_noise(u, part)
            for flow, part in zip(flows, contexts.chunk(len(flows), dim=-1), strict=True)
        ]
        zeta = np.stack([value.numpy() for value, _ in found])
        log_weights = self._double.mixture_weights.log().log_softmax(0).numpy()
        return zeta, np.stack([step.numpy() for _, step in found]) + log_weights[:, None] + log_det - np.log(
            self.scale
        ).sum()

    def _inner_point(self) -> NDArray[np.float64]:
        return self.prior.from_unconstrained(self.centre)


def _draws_that_fit(n: int, numbers_a_draw: int) -> int:
    """n as an int, if it is a positive integer and n draws of so many float64 fit into the free memory."""
    wanted = 8 * integer("n", n) * numbers_a_draw
    if wanted > _ALWAYS_FREE and wanted > (free := free_memory()):
        raise SettingsError(
            f"n={n:,} draws would take {wanted / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free. Draw "
            f"fewer at a time."
        )
    return int(n)


def _blocks(m: int, n: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """(events, rows) that cover m events of n rows each, in order: short events together, a long one in equal
    parts.
    """
    if n == 0:
        return
    events, size = max(1, at_once // n), math.ceil(n / math.ceil(n / at_once))
    for first in range(0, m, events):
        for start in range(0, n, size):
            yield slice(first, min(first + events, m)), slice(start, min(start + size, n))


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
    if simulator.prior != posterior.prior or simulator.event_shape != posterior.event_shape:
        raise SettingsError(
            f"the posterior was trained on {posterior.facts['simulator']!r} with {posterior.prior} and "
            f"events {posterior.event_shape}; "
            f"the simulator passed is {simulator.name!r} with {simulator.prior} and events "
            f"{simulator.event_shape}. "
            "Pass the one it was trained on."
        )
