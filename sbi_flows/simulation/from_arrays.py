"""Pairs (theta, y) made elsewhere, as `Simulations.from_arrays` takes them: converted once, and checked.

Rows of theta must be finite and inside the prior's support, where its map T to R^u is finite too. Rows of y
that are not finite are kept with the status "nonfinite".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from numpy.typing import NDArray

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import ObservationError, PriorError, ShapeError
from sbi_flows.problem.events import Declaration, Events, packed
from sbi_flows.problem.observation import matched
from sbi_flows.problem.prior import Prior, check_prior
from sbi_flows.simulation.failures import NONFINITE, OK, STATUS, Failure, kind_of

GIVEN = "given pairs"
CAUSE = "NaN or infinite values"
KIND = kind_of(CAUSE, NONFINITE)
_CALL = "sf.Simulations.from_arrays(prior, theta, y)"
_RECORDS, _SHOWN = 20, 5
_MARK_BYTES = 8


class Given(NamedTuple):
    """n pairs: theta (n, d) float64; y (n, *event), float32 where it was given so, else float64; codes (n,),
    indices into `STATUS`.
    """

    theta: Float[np.ndarray, "n d"]
    y: Shaped[np.ndarray, "n *event"]
    codes: UInt8[np.ndarray, " n"]
    events: Events


def given_pairs(prior: Prior, theta: Any, y: Any, declared: Declaration) -> Given:
    """The pairs, checked. declared: what y is said to be.

    theta: (n, d) array, one entry per name, or a data frame with the parameters as columns. y: (n, *event)
    array, a list of n events of one shape, or a data frame (n, m); or a mapping of names to these. Where
    values may be missing, events of a list may end early.

    Raises `PriorError`, `ShapeError`, and `ObservationError` for what is not a number or not finite.
    """
    check_prior(prior, _CALL)
    rows = _as_theta(prior, theta)
    arrays = {
        str(name): _as_events(part, declared, str(name))
        for name, part in (y.items() if isinstance(y, Mapping) else [("", y)])
    }
    counts = {name: len(part) for name, part in arrays.items()}
    if set(counts.values()) != {len(rows)}:
        found = " and ".join(
            f"y{f'[{name!r}]' if name else ''} has {count:,}" for name, count in counts.items()
        )
        raise ShapeError(
            f"theta has {len(rows):,} rows and {found}; row i of y must be simulated at row i "
            "of theta. Pass both with the same number of rows."
        )
    _check_inside(prior, rows)
    events = declared.events({name: part.shape[1:] for name, part in arrays.items()}, "from_arrays")
    whole = (
        packed({table.name: arrays[table.name] for table in events.tables}) if events.named else arrays[""]
    )
    flat = whole.reshape(len(whole), -1)
    bad = np.isinf(flat).any(axis=1) | (
        np.isnan(flat).all(axis=1) if declared.missing else np.isnan(flat).any(axis=1)
    )
    return Given(rows, whole, np.where(bad, NONFINITE, OK).astype(np.uint8), events)


def records_of(prior: Prior, given: Given, block_size: int) -> tuple[Failure, ...]:
    """A sample of the rows that cannot be used."""
    records = []
    for row in np.flatnonzero(given.codes)[:_RECORDS].tolist():
        where = {name: value.tolist() for name, value in prior.as_mapping(given.theta[row]).items()}
        records.append(Failure(row, row // block_size, STATUS[NONFINITE], CAUSE, "", where))
    return tuple(records)


def marks(theta: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, "n *event"]) -> list[str]:
    """A short digest of each pair, by which it is known again."""
    rows, events = (np.asarray(part, dtype=np.float64).reshape(len(part), -1) for part in (theta, y))
    return [
        hashlib.blake2b(one.tobytes() + other.tobytes(), digest_size=_MARK_BYTES).hexdigest()
        for one, other in zip(rows, events, strict=True)
    ]


def _as_theta(prior: Prior, theta: Any) -> F:
    """theta as float64 (n, d), finite. One parameter may also come as (n,)."""
    if prior.d == 1 and not isinstance(theta, Mapping) and not hasattr(theta, "columns"):
        try:
            values = numbers(theta, "theta", "an array, or one array per name")
        except ObservationError as error:
            raise ShapeError(str(error)) from error
        theta = values[:, None] if values.ndim == 1 else values
    rows = np.array(prior.as_array(theta))
    if rows.ndim != 2 or not len(rows):
        raise ShapeError(
            f"theta must have shape (n, {prior.d}) with at least one row, one column for each of "
            f"{', '.join(prior.names)}; got {rows.shape}."
        )
    bad = ~np.isfinite(rows)
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise ObservationError(
            f"theta holds {int(bad.sum()):,} NaN or infinite values, the first in row {row}: "
            f"{prior.names[column]} = {rows[row, column]}. Leave such rows out of theta and of y."
        )
    return rows


def _as_events(y: Any, declared: Declaration, name: str) -> NDArray[Any]:
    """One array of y as floats (n, *event). Masked values become NaN; columns of a data frame are matched."""
    if declared.missing and isinstance(y, list | tuple):
        y = _filled_up(y)
    _check_lengths(y)
    if (kind := declared.kinds.get(name)) is not None and kind.names is not None:
        y = _in_order(y, kind.names, name or "y")
    if hasattr(y, "detach"):
        tensor = y.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float() if tensor.element_size() <= 4 else tensor.double()
        y = tensor.numpy()
    single = getattr(y, "dtype", np.dtype(np.float64)) in (np.dtype(np.float32), np.dtype(np.float16))
    if hasattr(y, "columns"):
        single = set(y.dtypes) == {np.dtype(np.float32)}
    values = numbers(y, "y", "one event per row of theta")
    if values.ndim == 0 or not values.size:
        raise ShapeError(
            f"y must have shape (n, *event), one event of at least one number per row of theta; got "
            f"{values.shape}."
        )
    return np.array(values, dtype=np.float32 if single else np.float64)


def _in_order(y: Any, names: tuple[str, ...], says: str) -> Any:
    """Data frames, also in a list, with their columns in the order of the names."""
    if isinstance(y, list | tuple):
        return [_in_order(one, names, says) for one in y]
    return matched(y, names, says) if hasattr(y, "columns") else y


def _filled_up(y: Any) -> Any:
    """Events that end early, filled up with NaN to the length of the longest."""
    parts = [np.asarray(event) for event in y if np.ndim(event)]
    shapes = {part.shape for part in parts}
    if len(parts) < len(y) or len(shapes) < 2 or len({shape[1:] for shape in shapes}) > 1:
        return y
    longest = max(len(part) for part in parts)
    whole = np.full((len(parts), longest, *parts[0].shape[1:]), np.nan)
    for row, part in zip(whole, parts, strict=True):
        row[: len(part)] = part
    return whole


def _check_lengths(y: Any) -> None:
    """Raise `ShapeError` where y is a list of events whose shapes differ."""
    if not isinstance(y, list | tuple):
        return
    try:
        shapes = [np.shape(event) for event in y]
    except ValueError:  # an event that is itself ragged
        shapes = []
    distinct = list(dict.fromkeys(shapes))
    if len(distinct) != 1:
        first = ", ".join(str(shape) for shape in distinct[:_SHOWN]) or "events that are ragged themselves"
        more = ", ..." if len(distinct) > _SHOWN else ""
        raise ShapeError(
            f"y must be a list of events of one shape; these differ: {first}{more}. Fill short events with "
            "NaN to the length of the longest and pass missing=True."
        )


def _check_inside(prior: Prior, theta: F) -> None:
    """Raise `PriorError` where rows lie outside the prior, or on its edge, where T is infinite."""
    inside = prior.inside(theta)
    if not inside.all():
        row = int(np.flatnonzero(~inside)[0])
        raise PriorError(
            f"{int((~inside).sum()):,} of {len(theta):,} rows of theta lie outside the prior. The first is "
            f"row {row}: {_outside(prior, theta[row])}. Pass the prior that theta was drawn from; its "
            f"parameters are {', '.join(prior.names)}, in this order."
        )
    with np.errstate(all="ignore"):
        z, log_det = prior.to_unconstrained(theta)
    edge = ~(np.isfinite(z).all(axis=1) & np.isfinite(log_det))
    if edge.any():
        row = int(np.flatnonzero(edge)[0])
        raise PriorError(
            f"{int(edge.sum()):,} of {len(theta):,} rows of theta lie exactly on the edge of the prior, "
            f"where no draw of a continuous distribution lies. The first is row {row}: "
            f"{_said(prior, theta[row])}. Were they rounded when they were written? Write more digits, or "
            "leave such rows out of theta and of y."
        )


def _outside(prior: Prior, row: F) -> str:
    """Which parameter of the row is outside which bounds; the whole row where no bound is crossed."""
    for name, value, low, high in zip(prior.names, row, prior.lower, prior.upper, strict=True):
        if not low <= value <= high:
            return f"{name} = {value:.6g}, outside [{low:.6g}, {high:.6g}]"
    return f"{_said(prior, row)}, which the prior rules out together"


def _said(prior: Prior, row: F) -> str:
    shown = [f"{name} = {value:.6g}" for name, value in zip(prior.names, row, strict=True)]
    return ", ".join([*shown[:_SHOWN], *(["..."] if len(shown) > _SHOWN else [])])
