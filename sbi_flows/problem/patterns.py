"""Which values are observed: patterns of gaps and lengths, drawn anew each time that a simulation is used.

    y ~ p(y | theta),   pattern ~ p(pattern),   the network sees y where the pattern lets it, NaN elsewhere

so q(theta | observed part of y) is trained for every pattern that p(pattern) can give. The patterns do not
depend on theta or on the values (missing completely at random; Rubin 1976). What does depend on them belongs
in the simulator, which then returns NaN, or in an `observe` function of the user's own. Value and mask as
input of the network are what Wang et al. 2024 (PLoS Comput Biol 20:e1012184) found best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F, integer, is_real
from sbi_flows.errors import SbiFlowsError, SettingsError, SimulatorContractError
from sbi_flows.problem.data import Set
from sbi_flows.problem.events import Events, Table, packed
from sbi_flows.problem.observation import as_observation

_OWN = "It takes n events and a generator, and returns them with NaN where nothing is observed"


class Pattern(Protocol):
    """A distribution of patterns."""

    def check(self, events: Events) -> None:
        """Raise `SettingsError` where it does not suit such events."""

    def apply(self, y: NDArray[Any], events: Events, rng: np.random.Generator) -> NDArray[Any]:
        """Events y (n, *event) with NaN where the pattern drawn for each leaves a gap. y may be written
        to.
        """

    def to_json(self) -> dict[str, Any]:
        """The record of a file."""


@dataclass(frozen=True)
class Gaps:
    """Values missing completely at random; see `gaps`."""

    share: tuple[float, float]
    by: str
    table: str | None

    def check(self, events: Events) -> None:
        _tables(events, self.table)

    def apply(self, y: NDArray[Any], events: Events, rng: np.random.Generator) -> NDArray[Any]:
        for table, values in _views(y, events, self.table):
            share = rng.uniform(*self.share, len(y)).reshape(-1, *(1 for _ in table.shape))
            shape = table.shape if self.by == "value" else (*table.shape[:1], *(1 for _ in table.shape[1:]))
            np.copyto(values, np.nan, where=rng.random((len(y), *shape)) < share)
        return y

    def to_json(self) -> dict[str, Any]:
        return {"pattern": "gaps", "share": list(self.share), "by": self.by, "table": self.table}


@dataclass(frozen=True)
class Lengths:
    """Series, or sets, that end early; see `lengths`."""

    least: int
    most: int
    table: str | None

    def check(self, events: Events) -> None:
        for table in _tables(events, self.table):
            if not table.may_be_shorter or not table.shape:
                raise SettingsError(
                    f"lengths are of series and of sets; {table.says} is {table.kind}. Declare what it is: "
                    "@sf.simulator(prior, data=sf.Series())."
                )
            if table.shape[0] < self.most:
                raise SettingsError(
                    f"lengths({self.least}, {self.most}): the simulator makes {table.shape[0]} steps. Let "
                    f"it make the longest, {self.most}."
                )

    def apply(self, y: NDArray[Any], events: Events, rng: np.random.Generator) -> NDArray[Any]:
        length = self._drawn(len(y), rng)[:, None]
        for table, values in _views(y, events, self.table):
            places = np.broadcast_to(np.arange(table.shape[0]), (len(y), table.shape[0]))
            if isinstance(table.kind, Set):
                places = rng.permuted(places, axis=1)
            beyond = places >= length
            np.copyto(values, np.nan, where=beyond.reshape(*beyond.shape, *(1 for _ in table.shape[1:])))
        return y

    def _drawn(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """n lengths: each uniform, or uniform in the logarithm, with the same chance."""
        logs = np.exp(rng.uniform(np.log(self.least), np.log(self.most + 1), n))
        by_log = np.clip(logs.astype(np.int64), self.least, self.most)
        return np.where(rng.random(n) < 0.5, rng.integers(self.least, self.most + 1, n), by_log)

    def to_json(self) -> dict[str, Any]:
        return {"pattern": "lengths", "least": self.least, "most": self.most, "table": self.table}


@dataclass(frozen=True, eq=False)
class Like:
    """The patterns of given observations, each as likely. there (k, *event): where they have values."""

    there: NDArray[np.bool_]

    def check(self, events: Events) -> None:
        if self.there.shape[1:] != events.shape:
            raise SettingsError(
                f"patterns of shape {self.there.shape[1:]} for events of shape {events.shape}."
            )

    def apply(self, y: NDArray[Any], events: Events, rng: np.random.Generator) -> NDArray[Any]:
        np.copyto(y, np.nan, where=~self.there[rng.integers(len(self.there), size=len(y))])
        return y

    def to_json(self) -> dict[str, Any]:
        bits = np.packbits(self.there.reshape(-1)).tobytes().hex()
        return {"pattern": "like", "shape": list(self.there.shape), "bits": bits}


@dataclass(frozen=True, eq=False)
class Own:
    """A function of the user's own."""

    function: Callable[..., Any]

    def check(self, events: Events) -> None:
        """Nothing can be known before it is called."""

    def apply(self, y: NDArray[Any], events: Events, rng: np.random.Generator) -> NDArray[Any]:
        try:
            seen = self.function(events.unpack(y), rng)
        except SbiFlowsError:
            raise
        except Exception as error:
            raise SimulatorContractError(
                f"observe: raised {type(error).__name__}: {error}. {_OWN}: observe(y, rng) -> y."
            ) from error
        if isinstance(seen, Mapping):
            wanted = events.unpack(y)
            known = events.named and isinstance(wanted, dict) and set(seen) == set(wanted)
            seen = (
                packed({table.name: np.asarray(seen[table.name]) for table in events.tables})
                if known
                else None
            )
        seen = np.asarray(seen)
        if seen.shape != y.shape or seen.dtype.kind not in "biuf":
            raise SimulatorContractError(
                f"observe: returned {seen.dtype} of shape {seen.shape} for events of shape {y.shape}. "
                f"{_OWN}: observe(y, rng) -> y."
            )
        if np.isinf(seen).any():
            raise SimulatorContractError(f"observe: returned infinite values. {_OWN}: observe(y, rng) -> y.")
        return seen

    def to_json(self) -> dict[str, Any]:
        return {
            "pattern": "own",
            "name": str(getattr(self.function, "__name__", type(self.function).__name__)),
        }


@dataclass(frozen=True, eq=False)
class Observe:
    """Patterns, one after the other, for events: a call redraws them."""

    parts: tuple[Pattern, ...]
    events: Events

    def __call__(self, y: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Events y (n, *event), a copy, with NaN where nothing is observed."""
        y = np.array(y)
        for part in self.parts:
            y = part.apply(y, self.events, rng)
        return y

    @property
    def own(self) -> bool:
        """Whether a function is needed that a file cannot hold."""
        return any(isinstance(part, Own) for part in self.parts)

    def to_json(self) -> list[dict[str, Any]]:
        """The record of a file."""
        return [part.to_json() for part in self.parts]


def gaps(share: float | tuple[float, float], *, by: str = "value", table: str | None = None) -> Gaps:
    """Values missing at random. For each data set a share is drawn, uniform on `share`; each value is missing
    with that probability.

    share: (least, most), or one number. by: "value", or "step" where all channels of a step, or all of a
    member of a set, are missing together. table: of a mapping, the one array with gaps; None for all.

    Raises `SettingsError`.
    """
    low, high = share if isinstance(share, tuple | list) and len(share) == 2 else (share, share)
    if not (is_real(low) and is_real(high) and 0 <= low <= high < 1):
        raise SettingsError(
            f"share must be a number from 0 to below 1, or two of them in order, got {share!r}."
        )
    if by not in ("value", "step"):
        raise SettingsError(f"by must be 'value' or 'step', got {by!r}.")
    return Gaps((float(low), float(high)), by, table)


def lengths(least: int, most: int, *, table: str | None = None) -> Lengths:
    """Series of `least` to `most` steps, or sets of as many members; half of the lengths are drawn uniformly,
    half uniformly in the logarithm, since answers change most between short ones. Of a series the first ones
    are observed. table: of a mapping, the one array that is meant; None for all, which then have one length.

    Raises `SettingsError`.
    """
    least = integer("least", least)
    return Lengths(least, integer("most", most, least), table)


def like(y_obs: Any, events: Events) -> Like:
    """The patterns of these observations. Raises `ShapeError`, `ObservationError`."""
    stack = as_observation(y_obs, events.with_missing(), stack=True)
    stack = stack.reshape(-1, *events.shape)
    return Like(np.unique(~np.isnan(stack), axis=0))


def as_observe(given: Any, events: Events) -> Observe | None:
    """What `observe=` was given, for such events. Raises `SettingsError`."""
    if given is None or isinstance(given, Observe):
        return given
    parts = tuple(given) if isinstance(given, Sequence) else (given,)
    made: list[Pattern] = []
    for part in parts:
        if isinstance(part, Gaps | Lengths | Like | Own):
            made.append(part)
        elif callable(part):
            made.append(Own(part))
        else:
            raise SettingsError(
                "observe must be sf.gaps(...), sf.lengths(...), a function observe(y, rng) -> y, or a list "
                f"of these, got {part!r}."
            )
        made[-1].check(events)
    return Observe(tuple(made), events) if made else None


def observe_from_json(
    record: list[dict[str, Any]], events: Events, own: Callable[..., Any] | None
) -> Observe:
    """What `to_json` gave, with the user's function where one is named. Raises `SettingsError` without it."""
    parts: list[Pattern] = []
    for one in record:
        if one["pattern"] == "gaps":
            parts.append(Gaps((one["share"][0], one["share"][1]), one["by"], one["table"]))
        elif one["pattern"] == "lengths":
            parts.append(Lengths(one["least"], one["most"], one["table"]))
        elif one["pattern"] == "like":
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(one["bits"]), dtype=np.uint8))
            shape = tuple(one["shape"])
            parts.append(Like(bits[: int(np.prod(shape))].reshape(shape).astype(np.bool_)))
        else:
            parts.append(Own(own or _absent(one["name"])))
    return Observe(tuple(parts), events)


def _absent(name: str) -> Callable[..., Any]:
    def absent(y: Any, rng: np.random.Generator) -> F:
        raise SettingsError(
            f"this posterior was trained with the function observe={name}, which a file cannot hold. Load it "
            f"with sf.load(path, observe={name})."
        )

    absent.__name__ = name
    return absent


def _tables(events: Events, name: str | None) -> tuple[Table, ...]:
    if name is None:
        return events.tables
    found = tuple(table for table in events.tables if table.name == name)
    if not found:
        known = ", ".join(repr(table.name) for table in events.tables if table.name)
        raise SettingsError(
            f"table={name!r}: there is no such array of y; "
            f"{f'there are {known}' if known else 'y is one array'}."
        )
    return found


def _views(y: NDArray[Any], events: Events, name: str | None) -> list[tuple[Table, NDArray[Any]]]:
    """The tables with their parts of y, which write to it."""
    wanted = {table.name for table in _tables(events, name)}
    slices = events.slices
    return [
        (table, y[:, slices[table.name]].reshape(len(y), *table.shape) if events.named else y)
        for table in events.tables
        if table.name in wanted
    ]
