"""An observation, or a stack of them, as the user passes it: float64 of the shape of an event.

NaN, None and masked entries are not observed. A series that is shorter than the simulator's, or a set with
fewer members, is filled up with NaN at its end. Both are refused, in words, unless the posterior was trained
for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sbi_flows.arrays import F, numbers
from sbi_flows.errors import ObservationError, ShapeError
from sbi_flows.problem.data import Set, Vector
from sbi_flows.problem.events import Events, Table, packed

_TRAIN_FOR_IT = (
    "A posterior of such data is trained for it: sf.fit(simulator, like=y_obs), for the gaps and lengths of "
    "these observations, or observe={example} for a range of them"
)
_GAPS, _LENGTHS = "sf.gaps(share=(0, 0.3))", "sf.lengths({least}, {most})"


def as_observation(y: Any, events: Events, *, stack: bool = False) -> F:
    """Observed data as float64 of shape events.shape; with `stack`, several of them, (m, *events.shape).

    Lists, NumPy, pandas and torch objects are converted; of a mapping, each array by its name. A list of
    arrays of unequal lengths is a stack. Raises `ShapeError` and `ObservationError`.
    """
    values = _mapping(y, events, stack) if events.named else _array(y, events.tables[0], events, stack)
    _check_numbers(values, events)
    return values


def _mapping(y: Any, events: Events, stack: bool) -> F:
    if stack and isinstance(y, Sequence) and not isinstance(y, str | bytes) and len(y):
        return np.stack([_mapping(one, events, stack=False) for one in y])
    names = [table.name for table in events.tables]
    if not isinstance(y, Mapping):
        raise ShapeError(
            f"the observed data must be a mapping of {', '.join(map(repr, names))} to arrays, got "
            f"{type(y).__name__}: pass {{{', '.join(f'{name!r}: ...' for name in names)}}}."
        )
    if set(y) != set(names):
        missing, unknown = sorted(set(names) - set(y)), sorted(map(str, set(y) - set(names)))
        raise ShapeError(
            f"the observed data must name {', '.join(map(repr, names))}; missing {missing}, unknown "
            f"{unknown}."
        )
    parts = {table.name: _array(y[table.name], table, events, stack) for table in events.tables}
    stacked = {
        name: parts[name].ndim > len(table.shape) for name, table in zip(names, events.tables, strict=True)
    }
    if not any(stacked.values()):
        return np.asarray(packed({name: part[None] for name, part in parts.items()})[0])
    lengths = {name: len(part) if stacked[name] else None for name, part in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ShapeError(
            f"the observed data hold {lengths} observations: of a stack every array has as many, and of one "
            "observation none has a stack."
        )
    return packed(parts)


def _array(y: Any, table: Table, events: Events, stack: bool) -> F:
    """One array of an event, or a stack of it."""
    ndim = len(table.shape)
    if isinstance(y, Mapping):
        names = ", ".join(map(repr, y))
        raise ShapeError(
            f"{table.says} must be an array of shape {table.shape}, got a mapping of {names}. Pass the array."
        )
    y = _by_name(y, table)
    if stack and isinstance(y, list | tuple) and len(y) and _depth(y) == ndim + 1:
        whole = _regular(y)
        if whole is None and not events.missing and all(_fits(np.shape(one), table) for one in y):
            raise ShapeError(_unequal(y, table))
        if whole is None or whole.shape[1:] != table.shape:
            return np.stack([_event(one, table, events, stack) for one in y])
        return whole
    whole = _regular(y) if isinstance(y, list | tuple) else np.array(numbers(y, *_words(table)))
    if stack and whole is not None and whole.ndim == ndim + 1 and len(whole):
        column = ndim == 1 and whole.shape[1] == 1 != table.shape[0]
        if whole.shape[1:] == table.shape:
            return whole
        if not column and events.missing and _fits(whole.shape[1:], table):
            return np.stack([_event(one, table, events, stack) for one in whole])
    return _event(y if whole is None else whole, table, events, stack)


def _words(table: Table) -> tuple[str, str]:
    return f"{table.says}", f"an array of shape {table.shape}"


def _by_name(y: Any, table: Table, *, inside: bool = False) -> Any:
    """Data frames, also in lists, as arrays with their columns in the order of the declared names, if there
    are any. A row is an event where the table is a vector. inside: whether y is an entry of a list.
    """
    if isinstance(y, list | tuple):
        return [_by_name(one, table, inside=True) for one in y]
    names = None if table.kind is None else table.kind.names
    rows = names is not None and isinstance(table.kind, Vector)
    if rows and hasattr(y, "to_frame") and y.index.inferred_type == "string":
        y = y.to_frame().T
    if not hasattr(y, "columns"):
        return y
    values = numbers(y if names is None else matched(y, names, table.says), *_words(table))
    if rows:
        return values.reshape(table.shape if len(values) == 1 else (len(values), *table.shape))
    column = len(table.shape) == 1 and values.shape[1] == 1 and (inside or names is not None)
    return values[:, 0] if column else values


def matched(frame: Any, names: tuple[str, ...], says: str) -> Any:
    """A data frame with its columns in the order of `names`. Raises `ShapeError`."""
    columns = [str(column) for column in frame.columns]
    if set(columns) != set(names) or len(columns) != len(names):
        raise ShapeError(
            f"{says}: the data frame has the columns {', '.join(columns)}; declared are {', '.join(names)}. "
            "Select and rename them."
        )
    return frame.set_axis(columns, axis=1)[list(names)]


def _depth(given: Any) -> int:
    if isinstance(given, list | tuple):
        return 1 + max(map(_depth, given), default=0)
    return int(getattr(given, "ndim", 0))


def _regular(given: Any) -> F | None:
    """Nested lists of equal lengths as an array; None where the lengths differ."""
    return None if _ragged(given) else np.array(numbers(given, "the observed data", "an array"))


def _ragged(given: Any) -> bool:
    """Whether entries that are lists or arrays differ in shape."""
    if not isinstance(given, list | tuple):
        return False
    shapes = {_shape(one) for one in given}
    return len(shapes) > 1 or any(map(_ragged, given))


def _shape(one: Any) -> Any:
    if isinstance(one, list | tuple):
        return (len(one), *(_shape(one[0]) if one and not _ragged(one) else ("ragged",) if one else ()))
    return tuple(getattr(one, "shape", ()))


def _event(y: Any, table: Table, events: Events, stack: bool) -> F:
    """One array, filled up with NaN where it may be shorter."""
    values = _filled_up(y, table, events) if _ragged(y) else np.array(numbers(y, *_words(table)))
    if len(table.shape) == 1 and values.ndim == 2 and values.shape[1] == 1 and values.shape != table.shape:
        values = values[:, 0]
    if values.shape == table.shape:
        return values
    if not _fits(values.shape, table) or not events.missing:
        raise ShapeError(_wrong_shape(values.shape, table, events, stack))
    whole = np.full(table.shape, np.nan)
    whole[tuple(slice(0, length) for length in values.shape)] = values
    return whole


def _filled_up(y: Any, table: Table, events: Events) -> F:
    """Members of unequal lengths, each filled up with NaN. Raises `ShapeError`."""
    inner = Table(table.name, None, table.shape[1:])
    if table.may_be_shorter < 2 or not events.missing:
        raise ShapeError(_unequal(y, table))
    return np.stack([_event(one, inner, events, stack=False) for one in y])


def _unequal(y: Sequence[Any], table: Table) -> str:
    """What is said of a list of arrays whose lengths differ."""
    lengths = [len(one) if hasattr(one, "__len__") else 1 for one in y]
    return (
        f"{table.says}: a list of {len(lengths)} arrays of lengths {_some(lengths)} is not one array of "
        f"shape {table.shape}. {_advice(_LENGTHS, (min(lengths), max(lengths)))}. Replicates that share "
        f"parameters are a set: sf.replicates(simulator, 1, {len(lengths)})."
    )


def _fits(shape: tuple[int, ...], table: Table) -> bool:
    """Whether an array is one of the table's, but for axes that may be shorter."""
    if len(shape) != len(table.shape) or 0 in shape:
        return False
    free = table.may_be_shorter
    pairs = list(zip(shape, table.shape, strict=True))
    return all(a <= b for a, b in pairs[:free]) and all(a == b for a, b in pairs[free:])


def _some(lengths: Sequence[int]) -> str:
    more = ", ..." if len(lengths) > 5 else ""
    return f"{', '.join(map(str, lengths[:5]))}{more}"


def _advice(example: str, lengths: tuple[int, int]) -> str:
    least, most = lengths
    return _TRAIN_FOR_IT.format(example=example.format(least=least, most=most))


def _wrong_shape(shape: tuple[int, ...], table: Table, events: Events, stack: bool) -> str:
    also = f", or a stack of shape (m, {', '.join(map(str, table.shape))})" if stack else ""
    found = (
        f"{table.says} {'has' if table.name else 'have'} shape {shape}; the simulator makes events of shape "
        f"{table.shape}. Pass that shape{also}."
    )
    if _fits(shape, table) and not events.missing:
        return f"{found} {_advice(_LENGTHS, (shape[0], table.shape[0]))}."
    longer = len(shape) == len(table.shape) and shape[1:] == table.shape[1:] and shape[:1] > table.shape[:1]
    if longer and table.may_be_shorter:
        what = "members" if isinstance(table.kind, Set) else "steps"
        return (
            f"{found} For longer data, let the simulator make {shape[0]} {what}, and train for shorter ones "
            f"too: observe={_LENGTHS.format(least=table.shape[0], most=shape[0])}."
        )
    return found


def _check_numbers(values: F, events: Events) -> None:
    """Raise `ObservationError` for infinite values, for missing ones that were not trained for, and where
    nothing was observed.
    """
    bad = np.isinf(values) if events.missing else ~np.isfinite(values)
    if bad.any():
        where = [tuple(int(i) for i in index) for index in np.argwhere(bad)[:3]]
        missing = int(np.isnan(values).sum())
        advice = (
            f"{_advice(_GAPS, (0, 0))}; a simulator that itself returns NaN for what is not observed is "
            "declared with @sf.simulator(prior, missing=True)."
            if missing
            else "Check the data: there is no number for them."
        )
        raise ObservationError(
            f"the observed data hold {int(bad.sum())} NaN or infinite values of {bad.size} (first at "
            f"{where}). {advice}"
        )
    rows = np.isnan(values).reshape(-1, int(np.prod(events.shape, dtype=np.int64)))
    if rows.all(axis=1).any():
        raise ObservationError(
            "the observed data hold no observed value: all are NaN. Without data the "
            "posterior is the prior: simulator.prior."
        )


def as_observed(y: F, observed: F) -> F:
    """Events y (n, *event) with NaN where one observation (*event) has none: what it is compared with."""
    there = ~np.isnan(observed)
    return y if there.all() else np.where(there, y, np.nan)
