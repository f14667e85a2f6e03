"""Is what is missing in an observation like what was missing in training?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from numpy.typing import NDArray

_MOST_NEW = 0.001


@dataclass(frozen=True, eq=False)
class Patterns:
    """Of the training simulations, as they were observed.

    always, never (elements,): whether a value was there in all of them, or in none; False throughout where
    new ones are to be expected, as in `Scaler.fixed`. counts (2,): the fewest and the most values that were
    missing.
    longest (1,): the longest gap between two values of one data set, in elements.
    """

    always: NDArray[np.bool_]
    never: NDArray[np.bool_]
    counts: NDArray[np.int64]
    longest: NDArray[np.int64]

    @classmethod
    def of(cls, y: Shaped[np.ndarray, "n *event"]) -> Patterns:
        """From training simulations y, NaN where nothing was observed."""
        missing = np.isnan(y.reshape(len(y), -1))
        often = missing.sum(axis=0)
        always, never = often == 0, often == len(y)
        if (often == 1).sum() / len(y) > _MOST_NEW:
            always = np.zeros_like(always)
        if (often == len(y) - 1).sum() / len(y) > _MOST_NEW:
            never = np.zeros_like(never)
        total = missing.sum(axis=1)
        return cls(
            always, never, np.array([total.min(), total.max()]), np.array([_longest_gap(missing).max()])
        )

    def unlike(self, y: Shaped[np.ndarray, "m *event"]) -> Int[np.ndarray, "m 5"]:
        """Of each event: how many values are missing that never were; are there that never were; are missing
        beyond the most in training; lie in a gap beyond the longest; and are missing fewer than the fewest.
        """
        missing = np.isnan(y.reshape(len(y), -1))
        total = missing.sum(axis=1)
        more, fewer = np.maximum(total - self.counts[1], 0), np.maximum(self.counts[0] - total, 0)
        gap = np.maximum(_longest_gap(missing) - self.longest[0], 0)
        found = (missing & self.always).sum(axis=1), (~missing & self.never).sum(axis=1), more, gap, fewer
        return np.stack(found, axis=1).astype(np.int64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        return {name: getattr(self, name) for name in ("always", "never", "counts", "longest")}


def _longest_gap(missing: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The longest run of missing values between two that are there, in each row."""
    run, longest, begun = (np.zeros(len(missing), dtype=np.int64) for _ in range(3))
    for column in missing.T:
        longest = np.where(~column & (begun > 0), np.maximum(longest, run), longest)
        begun |= ~column
        run = np.where(column, run + 1, 0)
    return longest
