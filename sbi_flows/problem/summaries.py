"""The summaries that a simulator declares: k numbers t(y) for each data set, by a function of its author.

ABC compares data sets by them, and they join the input of the networks of `sf.fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SimulatorContractError
from sbi_flows.problem.events import Events

_ROWS_AT_ONCE = 8192
_SHOWN = 8


@dataclass(frozen=True)
class Summaries:
    """A call gives t(y), (n, k) in float64, of events y (n, *event), which the function gets in float64 too,
    at most 8,192 at once.

    function: (y (n, *event)) -> (n, k). name: of the simulator that declares it. events: what y is made of;
    of a mapping, the function gets one.
    Raises `SimulatorContractError` for another shape, and where the function raises, with the event.
    """

    function: Callable[..., Any]
    name: str
    events: Events | None = None

    def __call__(self, y: Shaped[np.ndarray, "n *event"]) -> Float[np.ndarray, "n k"]:
        starts = range(0, max(len(y), 1), _ROWS_AT_ONCE)
        parts = [self._checked(y[start : start + _ROWS_AT_ONCE]) for start in starts]
        if len(counts := {part.shape[1] for part in parts}) > 1:
            raise SimulatorContractError(
                f"{self.name}.summaries: returned {sorted(counts)} numbers for some events; wanted one k."
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _checked(self, y: NDArray[Any]) -> F:
        try:
            values = self._values(y)
        except Exception as error:
            raise SimulatorContractError(self._of_a_row(y, error)) from error
        if values.ndim != 2 or len(values) != len(y):
            raise SimulatorContractError(
                f"{self.name}.summaries: returned {values.shape} for {len(y)} rows; wanted ({len(y)}, k)."
            )
        return values

    def _values(self, y: NDArray[Any]) -> F:
        whole = np.asarray(y, dtype=np.float64)
        given = whole if self.events is None else self.events.unpack(whole)
        return np.asarray(self.function(given), dtype=np.float64)

    def _of_a_row(self, y: NDArray[Any], error: Exception) -> str:
        """What to say of `error`, with the first event for which the function raises, if there is one."""
        where = ""
        for row in y:
            try:
                self._values(row[None])
            except Exception as of_row:
                error, flat = of_row, np.asarray(row, dtype=np.float64).reshape(-1)
                more = ", ..." if flat.size > _SHOWN else ""
                where = f" for the event [{', '.join(f'{value:.6g}' for value in flat[:_SHOWN])}{more}]"
                break
        return (
            f"{self.name}.summaries: raised {type(error).__name__}: {error}{where}. It takes events (n, "
            "*event) and returns (n, k); let it give NaN where a summary does not exist."
        )
