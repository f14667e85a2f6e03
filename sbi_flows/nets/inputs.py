"""What a summary network takes of each data set: scaled y and, where the simulator declares summaries t(y),
those scaled too, as the columns of a vector.

Since t is a function of y, p(theta | y, t(y)) is p(theta | y): declared summaries add no information, but the
network need not find again what the author of the model knows. The median of a summary over the simulations
stands in where it is not finite: what the network takes is still a function of y, and no row is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SimulatorContractError, SummariesError
from sbi_flows.files import under
from sbi_flows.nets.layout import Layout
from sbi_flows.nets.scaling import Scaler
from sbi_flows.problem.summaries import Summaries

EXAMPLES = 8
_ALONE, _ROUNDING = 3, 1e-3

Function = Callable[[NDArray[Any]], F]


class Seen(NamedTuple):
    """parts: what the network takes, scaled y first. missing (n,): how many summaries of each event are not
    finite, where those of all simulations were.
    """

    parts: tuple[NDArray[Any], ...]
    missing: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Declared:
    """Declared summaries with their scaling.

    function: t. scaler: of the k summaries; those that do not vary are dropped.
    fill (k,): the median of each summary, in place of what is not finite.
    gaps (k,): whether a simulation had a value there that is not finite.
    examples (m, *event): a few simulations, and values (m, k), their summaries: by these a function is known
    again that a file cannot hold.
    """

    function: Function
    scaler: Scaler
    fill: F
    gaps: NDArray[np.bool_]
    examples: F
    values: F

    @classmethod
    def from_data(
        cls, function: Summaries, y: Shaped[np.ndarray, "n *event"], t: Float[np.ndarray, "n k"]
    ) -> Declared | None:
        """From simulations y and their summaries t; None where no summary varies.

        Raises `SimulatorContractError` if the summaries of an event depend on the events that are passed with
        it, and for numbers too large to be scaled.
        """
        finite = np.isfinite(t)
        fill = np.array([_median(column[there]) for column, there in zip(t.T, finite.T, strict=True)])
        filled = np.where(finite, t, fill)
        if not filled.size or (filled == filled[0]).all():
            return None
        try:
            scaler = Scaler.from_data(filled, shared=False)
        except SimulatorContractError as error:
            raise SimulatorContractError(f"{function.name}.summaries: {error}") from error
        chosen = np.unique(np.linspace(0, len(y) - 1, EXAMPLES).astype(np.int64))
        examples = np.asarray(y[chosen], dtype=np.float64)
        found = cls(function, scaler, fill, ~finite.all(axis=0), examples, function(examples))
        alone = np.concatenate([function(row[None]) for row in examples[:_ALONE]])
        if not found._same(alone, t[chosen[:_ALONE]]):
            raise SimulatorContractError(
                f"{function.name}.summaries: the summaries of an event are others where it is passed alone. "
                "Let row i of (n, k) depend on event i alone."
            )
        return found

    def of(self, y: Shaped[np.ndarray, "n *event"]) -> Float[np.ndarray, "n k"]:
        """t(y). Raises `SimulatorContractError` for another k, and what the function raises."""
        t = self.function(y)
        if t.shape[1] != len(self.fill):
            raise SimulatorContractError(
                f"the declared summaries are {t.shape[1]} numbers for these events, and were "
                f"{len(self.fill)} for the simulations. Return the same k always."
            )
        return t

    def __call__(self, t: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n kept"]:
        """Summaries, scaled."""
        return np.asarray(self.scaler(np.where(np.isfinite(t), t, self.fill)))

    def missing(self, t: Float[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
        """How many summaries of each row are not finite, where those of all simulations were."""
        return np.asarray((~np.isfinite(t) & ~self.gaps).sum(axis=1))

    def check(self) -> None:
        """Raise `SummariesError` unless the function gives the summaries that were kept of the examples."""
        try:
            found = self.function(self.examples)
        except SimulatorContractError as error:
            raise SummariesError(
                f"the summaries that were passed do not fit this posterior. {error}"
            ) from error
        if found.shape != self.values.shape:
            numbers = f"{found.shape[1]} numbers for an event; this posterior was trained with"
            raise SummariesError(
                f"the summaries that were passed are {numbers} {self.values.shape[1]}. Pass those of the "
                "simulator that it was trained on."
            )
        if not self._same(found, self.values):
            worst = np.unravel_index(np.argmax(self._apart(found, self.values)), found.shape)
            raise SummariesError(
                "the summaries that were passed are not those that this posterior was trained with: summary "
                f"{worst[1] + 1} of a stored simulation is {found[worst]:.6g}, and was "
                f"{self.values[worst]:.6g}. Pass those of the simulator that it was trained on."
            )

    def _same(self, t: F, other: F) -> bool:
        return t.shape == other.shape and not (self._apart(t, other) > _ROUNDING).any()

    def _apart(self, t: F, other: F) -> F:
        """Differences in standard deviations, infinite where one of both is not finite; 0 where dropped."""
        apart = np.zeros(t.shape)
        apart[:, self.scaler.keep] = np.abs(self(t) - self(other))
        return np.where(np.isfinite(t) == np.isfinite(other), apart, np.inf)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The numbers, for a file."""
        scaler = {f"scaler/{name}": value for name, value in self.scaler.arrays().items()}
        parts = ("fill", "gaps", "examples", "values")
        return {**scaler, **{name: getattr(self, name) for name in parts}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], function: Function) -> Declared:
        """What `arrays` gave, with the function. Raises `SummariesError` if it is another one."""
        scaler = Scaler((len(arrays["fill"]),), False, **under("scaler", arrays))
        found = cls(function, scaler, *(arrays[name] for name in ("fill", "gaps", "examples", "values")))
        found.check()
        return found


@dataclass(frozen=True, eq=False)
class Inputs:
    """scaler: of y. declared: the summaries that join, if there are any. layout: what the parts of y are, and
    whether values may be missing; they then are NaN in what the network takes.
    """

    scaler: Scaler
    declared: Declared | None = None
    layout: Layout | None = None

    @property
    def masked(self) -> bool:
        """Whether values may be missing."""
        return self.layout is not None and self.layout.masked

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the parts of one event."""
        return (self.scaler.out_shape, *(() if self.declared is None else (self.declared.scaler.out_shape,)))

    @property
    def numbers(self) -> int:
        """How many numbers of one event the network takes."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def __call__(self, y: Shaped[np.ndarray, "n *event"]) -> Seen:
        """What the network takes of events, in float64. Raises what `Summaries` raises."""
        scaled = self.scaler(y)
        if self.declared is None:
            return Seen((scaled,), np.zeros(len(y), dtype=np.int64))
        t = self.declared.of(y)
        return Seen((scaled, self.declared(t)), self.declared.missing(t))

    def in_float32(
        self, y: Shaped[np.ndarray, "n *event"], t: Float[np.ndarray, "n k"] | None = None
    ) -> tuple[NDArray[np.float32], ...]:
        """The parts in float32, without float64 copies of the whole of y. t: the summaries, where they are
        known.
        """
        scaled = self.scaler.in_float32(y)
        if self.declared is None:
            return (scaled,)
        summaries = self.declared(self.declared.of(y) if t is None else t)
        return scaled, np.ascontiguousarray(summaries, dtype=np.float32)

    def forgiving(self) -> Inputs:
        """The same for data that no simulator made: an event for which the function raises has summaries that
        are not finite.
        """
        if self.declared is None:
            return self
        function, k = self.declared.function, len(self.declared.fill)

        def of_each(y: NDArray[Any]) -> F:
            try:
                return function(y)
            except SimulatorContractError:
                return (
                    np.concatenate([of_each(row[None]) for row in y])
                    if len(y) > 1
                    else np.full((1, k), np.nan)
                )

        return replace(self, declared=replace(self.declared, function=of_each))


def _median(values: F) -> float:
    """One of the values, so that counts stay counts; 0 where there are none."""
    return float(np.quantile(values, 0.5, method="lower")) if len(values) else 0.0
