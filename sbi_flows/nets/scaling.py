"""Scaling of y, chosen from the simulations, column by column (or channel by channel for a series):

    counts (non-negative integers, not only 0 and 1)        u = sign(y) log(1 + |y|)
    heavy tails                                             u = asinh((y - median) / spread)
    anything else                                           u = y
    then                                                    (u - mean(u)) / sd(u)

A constant column carries no information and is dropped, with a word. The choice is a record of numbers: it is stored with the
posterior and applied to the observation as it was to the simulations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from sbi_flows.errors import SimulatorContractError

F = NDArray[np.float64]

PLAIN, COUNTS, HEAVY = 0, 1, 2
_HEAVY_TAIL = 10.0
_ROWS_TO_LOOK_AT = 20_000
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Scaler:
    """The scaling of events of shape event_shape. All arrays have shape (groups,): columns, or channels where `shared`.

    code: one of PLAIN, COUNTS, HEAVY; keep: False where dropped; centre, spread: for HEAVY; mean, sd: of u.
    """

    event_shape: tuple[int, ...]
    shared: bool
    code: NDArray[np.uint8]
    keep: NDArray[np.bool_]
    centre: F
    spread: F
    mean: F
    sd: F

    @classmethod
    def from_data(cls, y: Shaped[np.ndarray, "n *event"], shared: bool) -> Scaler:
        """Choose the scaling from simulations. `shared`: one choice for all time steps of a series (T,) or (T, channels).

        Raises `SimulatorContractError` if nothing varies.
        """
        event = y.shape[1:]
        counts = _counts(y, shared)
        look = _groups(y[:: max(1, len(y) // _ROWS_TO_LOOK_AT)], event, shared).astype(np.float64)
        groups = look.shape[-1]
        low, quarter, median, three_quarters, high = np.quantile(look.reshape(-1, groups), [0.001, 0.25, 0.5, 0.75, 0.999], axis=0)
        fallback = np.abs(look - median).reshape(-1, groups).mean(axis=0)
        spread = np.where(three_quarters > quarter, three_quarters - quarter, fallback)
        keep = np.ptp(_groups(y, event, shared).reshape(-1, groups), axis=0) > 0
        if not keep.any():
            raise SimulatorContractError(
                "all simulated values are the same number: y carries no information on theta. Check the simulator."
            )
        spread = np.where(spread > 0, spread, 1.0)
        heavy = np.maximum(high - median, median - low) > _HEAVY_TAIL * spread
        code = np.where(counts, COUNTS, np.where(heavy & (groups > 0), HEAVY, PLAIN)).astype(np.uint8)
        unscaled = cls(event, shared, code, keep, median, spread, np.zeros(groups), np.ones(groups))
        u = unscaled._transform(look.copy()).reshape(-1, groups)
        sd = u.std(axis=0)
        return cls(event, shared, code, keep, median, spread, u.mean(axis=0), np.where(sd > 0, sd, 1.0))

    @classmethod
    def given(cls, event_shape: tuple[int, ...], *, counts: bool, mean: F, sd: F) -> Scaler:
        """(y - mean) / sd element by element, of log1p(y) for counts."""
        m = len(mean)
        code = np.full(m, COUNTS if counts else PLAIN, dtype=np.uint8)
        return cls(event_shape, False, code, np.ones(m, dtype=np.bool_), np.zeros(m), np.ones(m), mean, sd)

    def __call__(self, y: Shaped[np.ndarray, "n *event"]) -> Shaped[np.ndarray, "n *kept"]:
        """Scaled y in float64: (n, kept) for vectors, (n, T, kept channels) for a series."""
        return np.asarray(self._standardised(y)[..., self.keep])

    def in_float32(self, y: Shaped[np.ndarray, "n *event"]) -> Shaped[np.ndarray, "n *kept"]:
        """As a call, in float32, row after row in memory, and without float64 copies of the whole of y."""
        out = np.empty((len(y), *self.out_shape), dtype=np.float32)
        for i in range(0, len(y), _ROWS_AT_ONCE):
            u = self._standardised(y[i : i + _ROWS_AT_ONCE])
            out[i : i + _ROWS_AT_ONCE] = u if self.keep.all() else np.compress(self.keep, u, axis=-1)
        return out

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of one scaled event."""
        kept = int(self.keep.sum())
        return (self.event_shape[0], kept) if self.shared else (kept,)

    def unlike_counts(self, y: Shaped[np.ndarray, "rows *event"]) -> NDArray[np.int64]:
        """How many values of each y are negative or fractional where the simulations were counts."""
        values = _groups(y, self.event_shape, self.shared)[..., self.code == COUNTS]
        return np.asarray(((values < 0) | (values != np.floor(values))).sum(axis=tuple(range(1, values.ndim))), dtype=np.int64)

    def describe(self) -> str:
        """What was chosen, in words."""
        what = "channel" if self.shared else "column"
        names = {COUNTS: "log1p (counts)", HEAVY: "asinh (heavy tails)", PLAIN: "linear"}
        kept = self.code[self.keep]
        parts = [
            f"{int((kept == code).sum())} {what}{'s' * (int((kept == code).sum()) != 1)} {names[code]}"
            for code in names
            if (kept == code).any()
        ]
        dropped = int((~self.keep).sum())
        tail = f"; {dropped} constant {what}{'s' * (dropped != 1)} dropped" if dropped else ""
        return f"{', '.join(parts)}, then standardised{tail}"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        return {name: getattr(self, name) for name in ("code", "keep", "centre", "spread", "mean", "sd")}

    def _standardised(self, y: Shaped[np.ndarray, "n *event"]) -> F:
        u = self._transform(_groups(y, self.event_shape, self.shared).astype(np.float64))
        u -= self.mean
        u /= self.sd
        return u

    def _transform(self, u: F) -> F:
        """u(y), written over y."""
        for code, change in ((COUNTS, _signed_log1p), (HEAVY, np.arcsinh)):
            chosen = self.code == code
            if chosen.any():
                part = u[..., chosen]
                u[..., chosen] = change((part - self.centre[chosen]) / self.spread[chosen] if code == HEAVY else part)
        return u


def _signed_log1p(y: F) -> F:
    return np.sign(y) * np.log1p(np.abs(y))


def _groups(y: Shaped[np.ndarray, "n *event"], event: tuple[int, ...], shared: bool) -> NDArray[Any]:
    if not shared:
        return y.reshape(len(y), -1)
    return y[..., None] if len(event) == 1 else y


def _counts(y: Shaped[np.ndarray, "n *event"], shared: bool) -> NDArray[np.bool_]:
    found = np.ones(1, dtype=np.bool_)
    above_one = np.zeros(1, dtype=np.bool_)
    for start in range(0, len(y), _ROWS_AT_ONCE):
        part = _groups(y[start : start + _ROWS_AT_ONCE], y.shape[1:], shared)
        flat = part.reshape(-1, part.shape[-1])
        whole, large = ((flat >= 0) & (flat == np.floor(flat))).all(axis=0), (flat > 1).any(axis=0)
        found, above_one = np.logical_and(found, whole), np.logical_or(above_one, large)
    return np.logical_and(found, above_one)
