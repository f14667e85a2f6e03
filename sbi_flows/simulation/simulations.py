"""Simulations: pairs (theta, y) from the joint p(theta) p(y | theta), with what happened to each row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from numpy.typing import NDArray

from sbi_flows.errors import PriorError, ShapeError
from sbi_flows.problem.prior import Prior

STATUS = ("ok", "nonfinite", "raised", "timeout", "died", "shape")
OK, NONFINITE, RAISED = 0, 1, 2


@dataclass(frozen=True)
class Failure:
    """One failed simulation: its row and block, its status in words, the cause and, where it raised, the traceback."""

    row: int
    block: int
    status: str
    cause: str
    traceback: str


@dataclass(frozen=True, eq=False)
class Simulations:
    """n pairs (theta, y).

    theta: (n, d) float64; y: (n, *event), NaN in rows that failed; codes: (n,) into `STATUS`; failures: a sample with tracebacks.
    The same (simulator, prior, seed, block_size) and a larger n continue the same rows.
    """

    prior: Prior
    theta: Float[np.ndarray, "n d"]
    y: Shaped[np.ndarray, " n *event"]
    codes: UInt8[np.ndarray, " n"]
    seed: int
    block_size: int
    simulator_name: str
    failures: tuple[Failure, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def names(self) -> tuple[str, ...]:
        """One label for each column of theta."""
        return self.prior.names

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one y."""
        return self.y.shape[1:]

    @property
    def status(self) -> Shaped[np.ndarray, " n"]:
        """(n,) words: ok, nonfinite, raised, timeout, died or shape."""
        return np.asarray(np.array(STATUS)[self.codes])

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) whether the row can be used."""
        return np.asarray(self.codes == OK)

    def counts(self) -> dict[str, int]:
        """Rows by status, in the order of `STATUS`, without those that did not occur."""
        found = Counter(self.codes.tolist())
        return {STATUS[code]: found[code] for code in sorted(found)}

    def usable(self) -> tuple[Float[np.ndarray, "m d"], Shaped[np.ndarray, " m *event"]]:
        """theta and y of the rows that are ok."""
        if self.ok.all():
            return self.theta, self.y
        return self.theta[self.ok], self.y[self.ok]

    def failure_text(self) -> str:
        """A sentence on the rows that failed, empty if none did."""
        failed = len(self) - int(self.ok.sum())
        if not failed:
            return ""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts().items() if name != "ok")
        first = f" First cause: {self.failures[0].cause}." if self.failures else ""
        return (
            f"{failed:,} of {len(self):,} simulations failed ({counts}) and are left out.{first} If failing depends on theta, leaving "
            "them out truncates the prior to the part that runs."
        )

    def check_matches(self, prior: Prior, event_shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` or `PriorError` unless these simulations have those parameters and events, drawn from that prior."""
        if self.names != prior.names or self.event_shape != event_shape:
            raise ShapeError(
                f"these simulations are of {self.simulator_name!r} with parameters {self.names} and events {self.event_shape}; "
                f"wanted parameters {prior.names} and events {event_shape}. Simulate again with the simulator that you pass."
            )
        if self.prior != prior:
            raise PriorError(
                f"these simulations were drawn from {self.prior}; the simulator that you pass has {prior}. A posterior trained on them "
                "would be that of the other prior. Simulate again with the simulator that you pass."
            )
