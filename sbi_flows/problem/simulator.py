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
from numpy.typing import ArrayLike, NDArray

from sbi_flows.arrays import F, integer, numbers
from sbi_flows.errors import (
    InputError,
    ObservationError,
    SimulatorContractError,
    TooManyFailuresError,
    UnknownParameterError,
)
from sbi_flows.problem.observation import as_observation
from sbi_flows.problem.prior import Prior, check_prior
from sbi_flows.problem.summaries import Summaries

ThetaMap = Mapping[str, Any]

FILE_PREFIX = "sbi_flows_file_"
_SHAPE_TRIES = 50


class NamedValues(dict[str, Any]):
    """theta as a simulator is given it: a dict that lists its names where it is asked for another one."""

    def __missing__(self, name: object) -> Any:
        raise UnknownParameterError(f"no parameter {name!r}; there are {', '.join(self)}")


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
    """

    event_shape: tuple[int, ...] | int | None
    summaries: Callable[..., Any] | None
    log_likelihood: Callable[..., Any] | None
    exact_posterior: Callable[..., Any] | None
    observed: Mapping[str, ArrayLike] | None


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
        shape = parts.get("event_shape")
        self._event_shape: tuple[int, ...] | None = None
        if shape is not None:
            self._event_shape = tuple(integer("event_shape", k) for k in np.atleast_1d(shape))
        self.summaries = _function("summaries", parts.get("summaries"))
        self.log_likelihood = _function("log_likelihood", parts.get("log_likelihood"))
        self.exact_posterior = _function("exact_posterior", parts.get("exact_posterior"))
        self.observed = {
            name: numbers(value, f"observed[{name!r}]", "one event")
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
        """The shape of one y. If it was not declared, one row is simulated when it is first needed.

        Raises `SimulatorContractError`, and `TooManyFailuresError` where no draw of the prior can be
        simulated.
        """
        if self._event_shape is None:
            self._event_shape = self._find_event_shape()
        return self._event_shape

    def settle(self, event_shape: tuple[int, ...]) -> None:
        """Take the shape of one y from elsewhere. Raises `SimulatorContractError` if another is declared."""
        if self._event_shape is not None and self._event_shape != event_shape:
            raise SimulatorContractError(
                f"{self.name}: made an event of shape {event_shape}; declared, or made before: "
                f"{self._event_shape}. Return one shape."
            )
        self._event_shape = event_shape

    def _find_event_shape(self) -> tuple[int, ...]:
        failure: Exception | None = None
        for attempt in range(_SHAPE_TRIES):
            rng = np.random.default_rng(attempt)
            try:
                return self.run(self.prior.sample(1, rng), rng).shape[1:]
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

        Returns float64, or float32 where the function does. Raises `SimulatorContractError`, and whatever the
        function raises.
        """
        n = len(theta)
        if self.vectorized:
            columns = NamedValues(
                {name: _read_only(value) for name, value in self.prior.as_mapping(theta).items()}
            )
            return self._as_floats(self._call(columns, rng), n)
        rows = [self._as_floats(np.asarray(self._call(self._one(row), rng))[None], 1) for row in theta]
        shapes = {row.shape[1:] for row in rows}
        if len(shapes) > 1:
            raise SimulatorContractError(
                f"{self.name}: returned shapes {sorted(shapes)} for different theta; wanted one shape."
            )
        return np.concatenate(rows)

    def _call(self, theta: ThetaMap, rng: np.random.Generator) -> Any:
        try:
            return self.function(theta, rng)
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

    def _as_floats(self, y: Any, n: int) -> NDArray[Any]:
        y = np.asarray(y)
        event = self._event_shape
        wrong = ""
        if y.dtype.kind not in "biuf":
            wrong = f"dtype {y.dtype}; wanted numbers (float, int or bool) of shape ({n}, *event)."
        elif y.ndim == 0 or y.shape[0] != n:
            wanted = f"({n}, {', '.join(map(str, event))})" if event else f"({n}, *event)"
            wrong = (
                f"shape {y.shape} for {n} rows of theta; wanted {wanted}. A simulator that handles one draw "
                "at a time is declared with vectorized=False."
            )
        elif 0 in y.shape[1:]:
            wrong = f"shape {y.shape}, which holds no numbers. Return at least one number per draw."
        elif event is not None and y.shape[1:] != event:
            wrong = (
                f"events of shape {y.shape[1:]}; declared, or returned before, was {event}. Return one fixed "
                "shape (pad if the length varies)."
            )
        if wrong:
            raise SimulatorContractError(f"{self.name}: returned {wrong}")
        return np.array(y, dtype=np.float32 if y.dtype.kind == "f" and y.dtype.itemsize <= 4 else np.float64)

    def check_observation(self, y: ArrayLike) -> F:
        """`y` as float64 of shape event_shape. Raises `ShapeError` or `ObservationError`."""
        return as_observation(y, self.event_shape)

    def compute_summaries(self, y: NDArray[Any]) -> Float[np.ndarray, "n k"]:
        """The declared summaries of y (n, *event), or y itself flattened where none are declared."""
        if self.summaries is None:
            return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        return Summaries(self.summaries, self.name)(y)

    @property
    def declared_summaries(self) -> Summaries | None:
        """t(y), where summaries were declared."""
        return None if self.summaries is None else Summaries(self.summaries, self.name)

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
    observed: Mapping[str, ArrayLike] | None = None,
) -> Callable[[Callable[..., Any]], Simulator]:
    """Decorator: turn a function (theta, rng) -> y into a `Simulator`. See `Parts` for the optional parts."""
    check_prior(prior, "@sf.simulator(prior)")
    parts = Parts(
        event_shape=event_shape,
        summaries=summaries,
        log_likelihood=log_likelihood,
        exact_posterior=exact_posterior,
        observed=observed,
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
