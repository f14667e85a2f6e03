"""What comes in as an array of anything, as rows of float64: converted once, refused in words."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sbi_flows.errors import ObservationError, SettingsError, ShapeError, TooFewSimulationsError
from sbi_flows.flows.columns import numbers
from sbi_flows.training.rows import LEAST_ROWS

F = NDArray[np.float64]


def rows_of(given: ArrayLike, event_shape: tuple[int, ...], name: str = "x") -> F:
    """One event or a stack of them as rows (n, elements of an event). Raises `ShapeError`, `ObservationError`."""
    values = numbers(given, name, f"one event of shape {event_shape} or a stack of them")
    if values.shape != event_shape and values.shape[1:] != event_shape:
        raise ShapeError(f"{name} must be one event of shape {event_shape} or a stack (n, *{event_shape}), got {values.shape}.")
    rows = values.reshape(-1, int(np.prod(event_shape)))
    if not len(rows):
        raise ShapeError(f"{name} has no rows, got {values.shape}. Pass at least one event.")
    if not np.isfinite(rows).all():
        row, element = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
        raise ObservationError(
            f"{name} must be finite, got {rows[row, element]} in row {row}, element {element}. Remove or fill in such rows."
        )
    return rows


def in_float32(rows: F) -> Tensor:
    """The rows as the networks are trained on them."""
    return torch.from_numpy(rows.astype(np.float32))


def count(name: str, value: object, least: int = 1) -> int:
    """`value` as an int of at least `least`. Raises `SettingsError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise SettingsError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return int(value)


def number(name: str, value: object, *, positive: bool = False) -> float:
    """`value` as a finite float, at least 0 or positive. Raises `SettingsError`."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not 0 <= float(value) < float("inf") or (positive and value == 0):  # type: ignore[arg-type]
        raise SettingsError(f"{name} must be a finite number {'above' if positive else 'of at least'} 0, got {value!r}.")
    return float(value)  # type: ignore[arg-type]


def check_enough(n: int, part_kept_apart: bool) -> None:
    """Raise `TooFewSimulationsError` where n rows are too few to keep some of them apart."""
    if part_kept_apart and n < LEAST_ROWS:
        raise TooFewSimulationsError(f"{n} rows are too few to train on; at least {LEAST_ROWS} are needed, or pass x_valid too.")
