"""Parameters that a posterior resolves worse than the data do, and where: its verdict at each observation.

Of each held-out simulation the bet e of `diagnostics.resolution` is kept. If q is the posterior, the product
of the bets on the 10 simulated data sets nearest to y_obs is at least 1 / alpha with probability at most
alpha, whatever y_obs is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sbi_flows.diagnostics.resolution import LARGE, Resolution, evidence_near
from sbi_flows.notes import Note

AT_OBSERVATION = 0.01
_FIT = 1e-4


@dataclass(frozen=True, eq=False)
class Unresolved:
    """names, factors: of the a parameters that are not resolved, and how many times as wide the posterior is
    as the errors of a local regression.
    summaries (m, k): of held-out simulations. log_e (m, a): the bets on them.
    """

    names: tuple[str, ...]
    factors: tuple[float, ...]
    summaries: Float[np.ndarray, "m k"]
    log_e: Float[np.ndarray, "m a"]

    def __repr__(self) -> str:
        each = ", ".join(
            f"{name} {factor:.3g} times too wide"
            for name, factor in zip(self.names, self.factors, strict=True)
        )
        return f"Unresolved({each})"

    @classmethod
    def of(cls, found: Sequence[Resolution], summaries: Float[np.ndarray, "m k"]) -> Unresolved | None:
        """The parameters whose posterior is at least three times too wide where the regression bets, with a
        false-alarm rate of at most 1e-4 over all parameters; None if there are none.
        """
        least = math.log(len(found) / _FIT)
        lost = [one for one in found if one.evidence >= least and one.factor >= LARGE]
        if not lost:
            return None
        factors = tuple(one.factor for one in lost)
        log_e = np.stack([one.log_e for one in lost], axis=1)
        return cls(tuple(one.quantity for one in lost), factors, summaries, log_e)

    def at(self, summaries: Float[np.ndarray, "n k"]) -> list[Note | None]:
        """For each observation, what is not resolved there, with a false-alarm rate of at most 1%."""
        least = math.log(len(self.names) / AT_OBSERVATION)
        evidence = evidence_near(self.log_e, self.summaries, summaries)
        return [self._note(row >= least) if (row >= least).any() else None for row in evidence]

    def _note(self, lost: NDArray[np.bool_]) -> Note:
        chosen = np.flatnonzero(lost)
        names, factors = [self.names[i] for i in chosen], [self.factors[i] for i in chosen]
        return Note("not resolved here", names=names, factors=factors)

    def to_json(self) -> dict[str, Any]:
        """Names and factors, for the record of a file."""
        return {"names": list(self.names), "factors": list(self.factors)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        return {"summaries": self.summaries, "log_e": self.log_e}

    @classmethod
    def from_file(cls, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Unresolved:
        """What `to_json` and `arrays` gave."""
        return cls(tuple(record["names"]), tuple(record["factors"]), arrays["summaries"], arrays["log_e"])
