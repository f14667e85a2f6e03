"""What a simulator is: a function (theta, rng) -> y, a prior, and whatever else is known about it.

    theta ~ p(theta),   y ~ p(y | theta)        only sampling is needed; p(y | theta) may stay unknown

    @simulator(prior)
    def my_model(theta, rng):                    theta: name -> (n,) float64, read-only;  rng: numpy Generator
        return ...                               (n, *event_shape)

    @simulator(prior, vectorized=False)
    def my_model(theta, rng):                    theta: name -> float
        return ...                               (*event_shape,)

The decorated name is the `Simulator`; `my_model.function` is the plain function. All randomness must come
from `rng`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, TypedDict, Unpack, cast

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray

from sbi_flows.arrays import F, integer, numbers
from sbi_flows.errors import InputError, ObservationError, SimulatorContractError, TooManyFailuresError
from sbi_flows.problem.data import Shape
from sbi_flows.problem.events import Declaration, Events, packed
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.patterns import Observe, as_observe
from sbi_flows.problem.prior import Prior, check_prior
from sbi_flows.problem.returned import NamedValues, OfMapping, alone, as_floats, ordered
from sbi_flows.problem.summaries import Summaries

ThetaMap = Mapping[str, Any]

FILE_PREFIX = "sbi_flows_file_"
_SHAPE_TRIES = 50


class Parts(TypedDict, total=False):
    """What may be known about a simulator besides its function and its prior; every part is optional.

    event_shape: the shape of one y. If it is not given, it is found by simulating.
    summaries: (y (n, *event)) -> (n, k), statistics of each data set on its own: for the distance of ABC, and
        part of the input of the networks of `sf.fit`. NaN where one does not exist.
    log_likelihood: (theta, y, rng) -> (n,), log p(y | theta) in nats for one y and n rows of theta (name ->
        (n,)). Either exact, or the log of an unbiased estimate (Andrieu & Roberts 2009): both give exact
        inference by importance sampling.
    exact_posterior: (y, n, rng) -> (n, d), draws from p(theta | y) in closed form, for one y.
    observed: named data sets, each of shape event_shape.
    data: what y is: sf.Vector(), sf.Series(), sf.Set(of=...), sf.Grid(), or a mapping of names to these where
        the function returns a mapping of arrays. If it is not given, a rule decides by shape and simulations.
    missing: whether NaN in y means "not observed" rather than "failed". A row without any value has failed.
    observe: patterns of gaps and lengths that a fit trains for unless it is told otherwise (`sf.gaps`).
    """

    event_shape: tuple[int, ...] | int | None
    summaries: Callable[..., Any] | None
    log_likelihood: Callable[..., Any] | None
    exact_posterior: Callable[..., Any] | None
    observed: Mapping[str, Any] | None
    data: Any
    missing: bool
    observe: Any


class Simulator:
    """A simulator with its prior, and the optional `Parts`. Made by `simulator`.

    vectorized: whether the function takes n rows of theta at once, or one. Raises `PriorError`, `InputError`,
    `SettingsError`, `ObservationError`, and `TypeError` for an unknown part.
    """

    def __init__(
        self, function: Callable[..., Any], prior: Prior, *, vectorized: bool = True, **parts: Unpack[Parts]
    ) -> None:
        check_prior(prior, "sf.Simulator(function, prior)")
        if not callable(function):
            raise InputError(f"a simulator is a function (theta, rng) -> y, got {type(function).__name__}.")
        if unknown := parts.keys() - Parts.__annotations__.keys():
            raise TypeError(f"a simulator has no part called {', '.join(sorted(unknown))}.")
        self.function = function
        self.prior = prior
        self.vectorized = vectorized
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.__doc__ = getattr(function, "__doc__", None)
        self._declared = Declaration.of(parts.get("data"), parts.get("missing", False))
        self._observe = parts.get("observe")
        shape = parts.get("event_shape")
        self._event_shape: Shape | None = None
        self._events: Events | None = None
        if shape is not None:
            self._event_shape = tuple(integer("event_shape", k) for k in np.atleast_1d(shape))
            if not self._declared.named:
                self._events = self._declared.events({"": self._event_shape}, self.name)
        self.summaries = _function("summaries", parts.get("summaries"))
        self.log_likelihood = _function("log_likelihood", parts.get("log_likelihood"))
        self.exact_posterior = _function("exact_posterior", parts.get("exact_posterior"))
        if self._declared.named:
            self.log_likelihood = self.log_likelihood and OfMapping(self.log_likelihood, self, 1)
            self.exact_posterior = self.exact_posterior and OfMapping(self.exact_posterior, self, 0)
        self.observed = {
            name: value
            if isinstance(value, Mapping) or hasattr(value, "columns")
            else numbers(value, f"observed[{name!r}]", "one event")
            for name, value in (parts.get("observed") or {}).items()
        }

    def __repr__(self) -> str:
        return f"Simulator({self.name!r}, {self.prior!r}, vectorized={self.vectorized})"

    def __reduce__(self) -> Any:
        """Pickle by reference where a module holds the simulator under its function's name, else by value."""
        module = str(getattr(self.function, "__module__", None))
        name = getattr(self.function, "__qualname__", "")
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self and _importable(module):
            return _find, (module, name)
        return _blank, (), self.__dict__

    def __call__(self, theta: ThetaMap, rng: np.random.Generator) -> Any:
        """Call the plain function."""
        return self.function(theta, rng)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one y; of a mapping, (total,), how many numbers its arrays hold together. If it was
        not declared, one row is simulated when it is first needed.

        Raises `SimulatorContractError`, and `TooManyFailuresError` where no draw of the prior can be
        simulated.
        """
        return self.events.shape if self._event_shape is None else self._event_shape

    @property
    def events(self) -> Events:
        """What one y is made of. Raises as `event_shape`."""
        return self._find_events() if self._events is None else self._events

    @property
    def observe(self) -> Observe | None:
        """The patterns that a fit trains for unless it is told otherwise. Raises `SettingsError`."""
        return as_observe(self._observe, self.events)

    @property
    def missing(self) -> bool:
        """Whether NaN in y means "not observed"."""
        return self._declared.missing

    def settle(self, event_shape: tuple[int, ...]) -> None:
        """Take the shape of one y from elsewhere. Raises `SimulatorContractError` if another is declared."""
        if self._event_shape is not None and self._event_shape != event_shape:
            raise SimulatorContractError(
                f"{self.name}: made an event of shape {event_shape}; declared, or made before: "
                f"{self._event_shape}. Return one shape."
            )
        self._event_shape = event_shape

    def know(self, events: Events) -> None:
        """Take what one y is made of from elsewhere."""
        self.settle(events.shape)
        self._events = events

    def _find_events(self) -> Events:
        """Simulate one row, to see what it is made of."""
        failure: Exception | None = None
        for attempt in range(_SHAPE_TRIES):
            rng = np.random.default_rng(attempt)
            try:
                self.run(self.prior.sample(1, rng), rng)
                return self.events
            except SimulatorContractError:
                raise
            except Exception as error:
                failure = failure or error
        raise TooManyFailuresError(
            f"{self.name}: raised on each of {_SHAPE_TRIES} draws from the prior, so the shape of its events "
            f"is unknown. First cause: {type(failure).__name__}: {failure}. Fix the simulator or the prior."
        ) from failure

    def run(
        self, theta: Float[np.ndarray, "n d"], rng: np.random.Generator
    ) -> Shaped[np.ndarray, " n *event"]:
        """Simulate one y per row of theta, all from `rng`, and check the contract.

        Returns float64, or float32 where the function does; arrays of a mapping one behind the other. Raises
        `SimulatorContractError`, and whatever the function raises.
        """
        n = len(theta)
        if self.vectorized:
            columns = NamedValues(
                {name: _read_only(value) for name, value in self.prior.as_mapping(theta).items()}
            )
            return self._as_rows(self._call(columns, rng), n)
        rows = [self._as_rows(alone(self._call(self._one(row), rng)), 1, shorter=True) for row in theta]
        shapes = {row.shape[1:] for row in rows}
        if len(shapes) > 1:
            raise SimulatorContractError(
                f"{self.name}: returned shapes {sorted(shapes)} for different theta; wanted one shape. "
                "Where lengths differ, declare the longest: event_shape=..., missing=True."
            )
        return np.concatenate(rows)

    def _call(self, theta: ThetaMap, rng: np.random.Generator) -> Any:
        try:
            return ordered(self.function(theta, rng), self._declared.kinds, self.name)
        except ValueError as error:
            if "read-only" in str(error):
                raise SimulatorContractError(
                    f"{self.name}: writes to the theta that it is given ({error}). Work on a copy: x = "
                    "theta[name].copy()."
                ) from error
            raise

    def _one(self, row: Float[np.ndarray, " d"]) -> dict[str, Any]:
        values = self.prior.as_mapping(row).items()
        return NamedValues(
            {name: float(value) if np.ndim(value) == 0 else _read_only(value) for name, value in values}
        )

    def _as_rows(self, y: Any, n: int, *, shorter: bool = False) -> NDArray[Any]:
        """What the function returned for n rows of theta, checked. shorter: fill up what ends early."""
        arrays = {str(name): part for name, part in y.items()} if isinstance(y, Mapping) else {"": y}
        known = self._events
        if known is None:
            found = {name: as_floats(part, n, self._who(name), None) for name, part in arrays.items()}
            known = self._declared.events({name: part.shape[1:] for name, part in found.items()}, self.name)
            self._check_settled(known)
            if known.named and not self._declared.named and (self.log_likelihood or self.exact_posterior):
                raise SimulatorContractError(
                    f"{self.name}: returns a mapping of {', '.join(map(repr, arrays))}. A simulator with a "
                    "log_likelihood or an exact_posterior declares what they are: "
                    "data={'name': sf.Series(), ...}."
                )
            self._events = known
        if set(arrays) != {table.name for table in known.tables}:
            known = self._declared.events(
                {name: np.shape(part)[1:] for name, part in arrays.items()}, self.name
            )
            before = self.events.describe()
            raise SimulatorContractError(f"{self.name}: returned {known.describe()}; before, {before}.")
        may_end = shorter and self.missing
        found = {
            table.name: as_floats(arrays[table.name], n, self._who(table.name), table.shape, may_end=may_end)
            for table in known.tables
        }
        return packed(found) if known.named else found[""]

    def _who(self, table: str) -> str:
        return f"{self.name}: returned {f'{table!r} with ' if table else ''}"

    def _check_settled(self, events: Events) -> None:
        if self._event_shape is not None and self._event_shape != events.shape:
            raise SimulatorContractError(
                f"{self.name}: returned events of shape {events.shape}; declared, or returned before, was "
                f"{self._event_shape}. Return one fixed shape (pad if the length varies)."
            )

    def check_observation(self, y: Any, *, gaps: bool = False) -> F:
        """`y` as float64 of shape event_shape. gaps: accept missing values, and shorter data, in any case.

        Raises `ShapeError` or `ObservationError`.
        """
        return as_observation(y, self.events.with_missing() if gaps else self.events)

    def compute_summaries(self, y: NDArray[Any]) -> Float[np.ndarray, "n k"]:
        """The declared summaries of y (n, *event), or y itself flattened where none are declared."""
        if self.summaries is None:
            return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        return Summaries(self.summaries, self.name, self.events if self._is_named else None)(y)

    @property
    def declared_summaries(self) -> Summaries | None:
        """t(y), where summaries were declared."""
        if self.summaries is None:
            return None
        return Summaries(self.summaries, self.name, self.events if self._is_named else None)

    @property
    def _is_named(self) -> bool:
        return self._declared.named or (self._events is not None and self._events.named)

    def data(self, name: str) -> F:
        """The named observed data set. Raises `ObservationError` with the names that exist."""
        if name not in self.observed:
            known = sorted(self.observed) or "none"
            raise ObservationError(f"{self.name} has no observed data set {name!r}; it has {known}.")
        return self.check_observation(self.observed[name])


def simulator(
    prior: Prior,
    *,
    vectorized: bool = True,
    event_shape: tuple[int, ...] | int | None = None,
    summaries: Callable[..., Any] | None = None,
    log_likelihood: Callable[..., Any] | None = None,
    exact_posterior: Callable[..., Any] | None = None,
    observed: Mapping[str, Any] | None = None,
    data: Any = None,
    missing: bool = False,
) -> Callable[[Callable[..., Any]], Simulator]:
    """Decorator: turn a function (theta, rng) -> y into a `Simulator`. See `Parts` for the optional parts."""
    check_prior(prior, "@sf.simulator(prior)")
    parts = Parts(
        event_shape=event_shape,
        summaries=summaries,
        log_likelihood=log_likelihood,
        exact_posterior=exact_posterior,
        observed=observed,
        data=data,
        missing=missing,
    )
    return lambda function: Simulator(function, prior, vectorized=vectorized, **parts)


def _function(part: str, given: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if given is not None and not callable(given):
        raise InputError(f"{part} must be a function, got {given!r}.")
    return given


def _importable(module: str) -> bool:
    """Whether another process can import the module by name: not a script or a file loaded by path."""
    return module != "__main__" and not module.startswith(FILE_PREFIX)


def _blank() -> Simulator:
    return Simulator.__new__(Simulator)


def _find(module: str, name: str) -> Simulator:
    return cast("Simulator", reduce(getattr, name.split("."), importlib.import_module(module)))


def _read_only(value: F) -> F:
    view = np.array(value)
    view.flags.writeable = False
    return view
