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
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike, NDArray

from sbi_flows.errors import (
    InputError,
    ObservationError,
    PriorError,
    ShapeError,
    SimulatorContractError,
    TooManyFailuresError,
)
from sbi_flows.problem.prior import Prior

ThetaMap = Mapping[str, Any]

FILE_PREFIX = "sbi_flows_file_"
_SHAPE_TRIES = 50


class Simulator:
    """A simulator with its prior. Made by `simulator`.

    summaries(y (n, *event)) -> (n, k): statistics for the distance of ABC.
    log_likelihood(theta, y, rng) -> (n,): log p(y | theta) in nats for one y and n rows of theta (name ->
        (n,)), exact or the log of an unbiased estimate (Andrieu & Roberts 2009): either gives exact inference
        by importance sampling.
    exact_posterior(y, n, rng) -> (n, d): draws from p(theta | y) in closed form, for one y.
    observed: named data sets, each of shape event_shape.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        prior: Prior,
        *,
        vectorized: bool = True,
        event_shape: tuple[int, ...] | int | None = None,
        summaries: Callable[..., Any] | None = None,
        log_likelihood: Callable[..., Any] | None = None,
        exact_posterior: Callable[..., Any] | None = None,
        observed: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        if not isinstance(prior, Prior):
            raise PriorError(
                f"a simulator needs an sf.Prior as its first argument, got {type(prior).__name__}: "
                f"@sf.simulator(prior)."
            )
        if not callable(function):
            raise InputError(
                f"a simulator wraps a function (theta, rng) -> y, got {type(function).__name__}."
            )
        for option, given in (
            ("summaries", summaries),
            ("log_likelihood", log_likelihood),
            ("exact_posterior", exact_posterior),
        ):
            if not (given is None or callable(given)):
                raise InputError(f"{option} must be a function, got {given!r}.")
        self.function = function
        self.prior = prior
        self.vectorized = vectorized
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.__doc__ = getattr(function, "__doc__", None)
        self._event_shape = None if event_shape is None else tuple(int(k) for k in np.atleast_1d(event_shape))
        self.summaries = summaries
        self.log_likelihood = log_likelihood
        self.exact_posterior = exact_posterior
        self.observed = {
            name: np.asarray(value, dtype=np.float64) for name, value in (observed or {}).items()
        }

    def __repr__(self) -> str:
        return f"Simulator({self.name!r}, {self.prior!r}, vectorized={self.vectorized})"

    def __reduce__(self) -> Any:
        """Pickle by reference where a module holds the simulator under its function's name, which decorating
        hides; else by value.
        """
        module, name = (
            str(getattr(self.function, "__module__", None)),
            getattr(self.function, "__qualname__", ""),
        )
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
        """The shape of one y. Where it was not declared, one row is simulated at the first need.

        Raises `SimulatorContractError`, and `TooManyFailuresError` where no draw of the prior can be
        simulated.
        """
        if self._event_shape is None:
            self._event_shape = self._find_event_shape()
        return self._event_shape

    def settle(self, event_shape: tuple[int, ...]) -> None:
        """Take the shape of one y from a simulation that was run elsewhere. Raises `SimulatorContractError`
        if another was declared.
        """
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
            f"{self.name}: raised on each of {_SHAPE_TRIES} draws from the prior, so the shape of its "
            f"events is unknown. "
            f"First cause: {type(failure).__name__}: {failure}. Mend the simulator or the prior."
        ) from failure

    def run(
        self, theta: Float[np.ndarray, "n d"], rng: np.random.Generator
    ) -> Shaped[np.ndarray, " n *event"]:
        """Simulate one y a row of theta, all from `rng`, and check the contract.

        Returns float64, or float32 where the function does. Raises `SimulatorContractError`, and whatever the
        function raises.
        """
        n = len(theta)
        if self.vectorized:
            columns = {name: _read_only(value) for name, value in self.prior.as_mapping(theta).items()}
            return self._as_floats(self._call(columns, rng), n)
        rows = [self._as_floats(np.asarray(self._call(self._one(row), rng))[None], 1) for row in theta]
        shapes = {row.shape[1:] for row in rows}
        if len(shapes) > 1:
            raise SimulatorContractError(
                f"{self.name}: returned arrays of shapes {sorted(shapes)} for different theta; wanted one "
                f"shape."
            )
        return np.concatenate(rows)

    def _call(self, theta: ThetaMap, rng: np.random.Generator) -> Any:
        try:
            return self.function(theta, rng)
        except ValueError as error:
            if "read-only" in str(error):
                raise SimulatorContractError(
                    f"{self.name}: writes to the theta that it is given ({error}). Work on a copy: x = "
                    f"theta[name].copy()."
                ) from error
            raise

    def _one(self, row: Float[np.ndarray, " d"]) -> dict[str, Any]:
        values = self.prior.as_mapping(row)
        return {
            name: float(value) if np.ndim(value) == 0 else _read_only(value) for name, value in values.items()
        }

    def _as_floats(self, y: Any, n: int) -> NDArray[Any]:
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise SimulatorContractError(
                f"{self.name}: returned dtype {y.dtype}; wanted numbers (float, int or bool) of shape ({n}, "
                f"*event)."
            )
        if y.ndim == 0 or y.shape[0] != n:
            wanted = (
                f"({n}, {', '.join(map(str, self._event_shape))})" if self._event_shape else f"({n}, *event)"
            )
            raise SimulatorContractError(
                f"{self.name}: returned shape {y.shape} for {n} rows of theta; wanted {wanted}. "
                "A simulator that handles one draw at a time is declared with vectorized=False."
            )
        if 0 in y.shape[1:]:
            raise SimulatorContractError(
                f"{self.name}: returned shape {y.shape}, which holds no numbers. Return at least one a draw."
            )
        if self._event_shape is not None and y.shape[1:] != self._event_shape:
            raise SimulatorContractError(
                f"{self.name}: returned events of shape {y.shape[1:]}; declared, or returned before, was "
                f"{self._event_shape}. "
                "Return one fixed shape (pad if the length varies)."
            )
        return np.array(y, dtype=np.float32 if y.dtype.kind == "f" and y.dtype.itemsize <= 4 else np.float64)

    def check_observation(self, y: ArrayLike) -> NDArray[np.float64]:
        """`y` as float64 of shape event_shape. Raises `ShapeError` or `ObservationError` in words."""
        return as_observation(y, self.event_shape)

    def compute_summaries(self, y: NDArray[Any]) -> Float[np.ndarray, "n k"]:
        """The declared summaries of y (n, *event), or y itself flattened where none are declared."""
        if self.summaries is None:
            return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        values = np.asarray(self.summaries(y), dtype=np.float64)
        if values.ndim != 2 or len(values) != len(y):
            raise SimulatorContractError(
                f"{self.name}.summaries: returned shape {values.shape} for {len(y)} rows; wanted ({len(y)}, "
                f"k)."
            )
        return values

    @property
    def declared_summaries(self) -> Callable[[NDArray[np.float64]], NDArray[np.float64]] | None:
        """`compute_summaries`, where summaries were declared."""
        return None if self.summaries is None else self.compute_summaries

    def data(self, name: str) -> NDArray[np.float64]:
        """The named observed data set. Raises `ObservationError` with the names that exist."""
        if name not in self.observed:
            raise ObservationError(
                f"{self.name} has no observed data set {name!r}; it has {sorted(self.observed) or 'none'}."
            )
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
    """Decorator: turn a function (theta, rng) -> y into a `Simulator`. See there for the optional parts."""
    if not isinstance(prior, Prior):
        raise PriorError(
            f"@sf.simulator takes an sf.Prior, got {type(prior).__name__}: write @sf.simulator(prior)."
        )

    def wrap(function: Callable[..., Any]) -> Simulator:
        return Simulator(
            function,
            prior,
            vectorized=vectorized,
            event_shape=event_shape,
            summaries=summaries,
            log_likelihood=log_likelihood,
            exact_posterior=exact_posterior,
            observed=observed,
        )

    return wrap


def as_observation(y: Any, event_shape: tuple[int, ...], *, stack: bool = False) -> NDArray[np.float64]:
    """Observed data as float64 of shape event_shape; with `stack`, (m, *event_shape) is accepted too.

    Lists, NumPy, pandas and torch objects are converted. Raises `ShapeError` and `ObservationError`.
    """
    detach = getattr(y, "detach", None)
    if detach is not None:
        y = detach().cpu().double().numpy()
    if np.ma.is_masked(y):
        raise ObservationError(
            f"{np.ma.count_masked(y)} of the observed data are masked. Cut the data to the part that was "
            f"observed."
        )
    try:
        values = np.asarray(y)
        if values.dtype.kind in "cmM":
            raise TypeError(
                "complex values"
                if values.dtype.kind == "c"
                else "dates or times: pass numbers in a unit of your choice"
            )
        values = values.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ObservationError(
            f"the observed data are not numbers ({error}). Pass an array of shape {event_shape}."
        ) from error
    stacked = (
        stack and values.ndim == len(event_shape) + 1 and values.shape[1:] == event_shape and len(values) > 0
    )
    if not stacked and len(event_shape) == 1 and values.shape == (*event_shape, 1):
        values = values[:, 0]
    if not stacked and values.shape != event_shape:
        also = f", or a stack of shape (m, {', '.join(map(str, event_shape))})" if stack else ""
        raise ShapeError(
            f"the observed data have shape {values.shape}; the simulator makes events of shape "
            f"{event_shape}. Pass that shape{also}."
        )
    bad = ~np.isfinite(values)
    if bad.any():
        where = [tuple(int(i) for i in index) for index in np.argwhere(bad)[:3]]
        raise ObservationError(
            f"the observed data hold {int(bad.sum())} NaN or infinite values of {bad.size} (first at "
            f"{where}). Missing values cannot be "
            "used as they are: build the missingness into the simulator, or cut the data to the part that "
            "was observed."
        )
    return values


def _importable(module: str) -> bool:
    """Whether another process can import the module by its name: not a script, and not a file that was loaded
    by its path.
    """
    return module != "__main__" and not module.startswith(FILE_PREFIX)


def _blank() -> Simulator:
    return Simulator.__new__(Simulator)


def _find(module: str, name: str) -> Simulator:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return cast("Simulator", found)


def _read_only(value: NDArray[np.float64]) -> NDArray[np.float64]:
    view = np.array(value)
    view.flags.writeable = False
    return view
