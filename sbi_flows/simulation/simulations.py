"""Simulations: pairs (theta, y) from the joint p(theta) p(y | theta), with what happened to each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import PriorError, ShapeError
from sbi_flows.problem.prior import Prior
from sbi_flows.simulation.failures import MEANT, NONFINITE, OK, STATUS, Failure, Failures

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one block, the first of which is row `start` of the whole.

    codes: of each row, an index into `STATUS`.
    kinds: the kind of cause of each failed row, in order.
    failures: a sample of the failed rows, with tracebacks.
    alone: why the rows were run one at a time although the simulator is vectorised (not kept on disk).
    """

    start: int
    theta: Float[np.ndarray, "rows d"]
    y: Shaped[np.ndarray, " rows *event"]
    codes: UInt8[np.ndarray, " rows"]
    kinds: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    alone: str = ""

    def __len__(self) -> int:
        return len(self.codes)

    def first(self, rows: int) -> Block:
        """The block cut to its first rows."""
        if rows >= len(self):
            return self
        bad = int((self.codes[:rows] != OK).sum())
        kept = tuple(failure for failure in self.failures if failure.row < self.start + rows)
        return Block(self.start, self.theta[:rows], self.y[:rows], self.codes[:rows], self.kinds[:bad], kept)


@dataclass(frozen=True, eq=False, repr=False)
class Simulations:
    """n pairs (theta, y), in memory or in a bank on disk.

    theta (n, d) float64 and y (n, *event), NaN in rows that failed, are read when first asked for and then
    kept; `read_block` and `gather` read parts of them. The same (simulator, prior, seed, block_size) and a
    larger n continue the same rows.

    codes: (n,), indices into `STATUS`.
    dtype: the type of y.
    source: gives block k.
    records: a sample of the failures, with tracebacks.
    arrays: theta and y, where they are in memory from the start.
    """

    prior: Prior
    codes: UInt8[np.ndarray, " n"]
    event_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    seed: int
    block_size: int
    simulator_name: str
    source: Callable[[int], Block] = field(repr=False)
    records: tuple[Failure, ...] = field(default=(), repr=False)
    arrays: tuple[F, NDArray[Any]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in self.counts().items())
        return (
            f"Simulations({len(self):,} of {self.simulator_name!r}: theta ({', '.join(self.names)}), y "
            f"{self.event_shape}; {counts})"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """One label for each column of theta."""
        return self.prior.names

    @cached_property
    def theta(self) -> Float[np.ndarray, "n d"]:
        """All parameters, in the order of `names`."""
        if self.arrays is not None:
            return self.arrays[0]
        theta = np.empty((len(self), self.prior.d))
        for k in range(self.n_blocks):
            block = self.read_block(k)
            theta[block.start : block.start + len(block)] = block.theta
        return theta

    @cached_property
    def y(self) -> Shaped[np.ndarray, " n *event"]:
        """All events."""
        if self.arrays is not None:
            return self.arrays[1]
        y = np.empty((len(self), *self.event_shape), dtype=self.dtype)
        for k in range(self.n_blocks):
            block = self.read_block(k)
            y[block.start : block.start + len(block)] = block.y
        return y

    @property
    def status(self) -> Shaped[np.ndarray, " n"]:
        """(n,) words: ok, nonfinite, raised, timeout, died or shape."""
        return np.asarray(np.array(STATUS)[self.codes])

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(n,) whether the row can be used."""
        return np.asarray(self.codes == OK)

    @property
    def n_blocks(self) -> int:
        """How many blocks hold the rows."""
        return -(-len(self) // self.block_size)

    @property
    def n_bytes(self) -> int:
        """What theta and y of all rows take in memory."""
        return len(self) * (8 * self.prior.d + self.dtype.itemsize * math.prod(self.event_shape))

    def read_block(self, k: int) -> Block:
        """Block k of `n_blocks`: rows k * block_size onward. Raises `StorageError` if a bank has changed."""
        start = k * self.block_size
        return self.source(k).first(min(self.block_size, len(self) - start))

    def gather(
        self, rows: Int[np.ndarray, " m"]
    ) -> tuple[Float[np.ndarray, "m d"], Shaped[np.ndarray, " m *event"]]:
        """theta and y of the given rows, in their order, reading each block that holds one of them once."""
        if self.arrays is not None or {"theta", "y"} <= vars(self).keys():
            return self.theta[rows], self.y[rows]
        theta = np.empty((len(rows), self.prior.d))
        y = np.empty((len(rows), *self.event_shape), dtype=self.dtype)
        order = np.argsort(rows, kind="stable")
        blocks = rows[order] // self.block_size
        for places in np.split(order, np.flatnonzero(np.diff(blocks)) + 1) if len(rows) else []:
            block = self.read_block(int(rows[places[0]]) // self.block_size)
            inside = rows[places] - block.start
            theta[places], y[places] = block.theta[inside], block.y[inside]
        return theta, y

    def counts(self) -> dict[str, int]:
        """Rows by status, in the order of `STATUS`, without those that did not occur."""
        found = np.bincount(self.codes, minlength=len(STATUS))
        return {STATUS[code]: int(found[code]) for code in np.flatnonzero(found)}

    def usable(self) -> tuple[Float[np.ndarray, "m d"], Shaped[np.ndarray, " m *event"]]:
        """theta and y of the rows that are ok."""
        if self.ok.all():
            return self.theta, self.y
        return self.theta[self.ok], self.y[self.ok]

    def failures(self) -> Failures:
        """The rows that failed: how many by cause, where in theta, and a sample with tracebacks. Print it."""
        blocks = sorted(set((np.flatnonzero(self.codes) // self.block_size).tolist()))
        kinds = [kind for k in blocks for kind in self.read_block(k).kinds]
        return Failures.of(self.names, self.theta, self.codes, kinds, self.records)

    def failure_text(self) -> str:
        """A sentence on the rows that failed, empty if none did."""
        failed = len(self) - int(self.ok.sum())
        if not failed:
            return ""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts().items() if name != "ok")
        first = f" First cause: {self.records[0].cause}." if self.records else ""
        meant = f" {MEANT}" if (self.codes == NONFINITE).any() else ""
        return (
            f"{failed:,} of {len(self):,} simulations failed ({counts}) and are left out.{first} If failing "
            "depends on theta, leaving them out truncates the prior to the part that runs; "
            f"print(simulations.failures()) shows where they fail.{meant}"
        )

    def to_xarray(self) -> xr.Dataset:
        """An xarray Dataset of theta, y and status, with dimensions simulation and parameter.

        `.to_netcdf(path, engine="h5netcdf")` saves it.
        """
        import xarray as xr

        event = [f"y_dim_{i}" for i in range(len(self.event_shape))]
        variables = {
            "theta": (("simulation", "parameter"), self.theta),
            "y": (("simulation", *event), self.y),
            "status": ("simulation", self.status),
        }
        facts = {
            "simulator": self.simulator_name,
            "prior": repr(self.prior),
            "seed": self.seed,
            "block_size": self.block_size,
        }
        return xr.Dataset(variables, {"parameter": list(self.names)}, facts)

    def check_matches(self, prior: Prior, event_shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` or `PriorError` unless these are simulations of such events, from that prior."""
        if self.names != prior.names or self.event_shape != event_shape:
            raise ShapeError(
                f"these simulations are of {self.simulator_name!r} with parameters {self.names} and events "
                f"{self.event_shape}; wanted parameters {prior.names} and events {event_shape}. Simulate "
                "again with the simulator that you pass."
            )
        if self.prior != prior:
            raise PriorError(
                f"these simulations were drawn from {self.prior}; the simulator that you pass has {prior}. A "
                "posterior trained on them would be that of the other prior. Simulate again with the "
                "simulator that you pass."
            )
