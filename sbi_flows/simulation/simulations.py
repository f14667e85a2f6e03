"""Simulations: pairs (theta, y) from the joint p(theta) p(y | theta), with what happened to each row."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from numpy.typing import ArrayLike, NDArray

from sbi_flows.arrays import F, integer
from sbi_flows.errors import PriorError, ShapeError, SimulationWarning
from sbi_flows.problem.events import Declaration, Events
from sbi_flows.problem.prior import Prior
from sbi_flows.rng import check_seed
from sbi_flows.simulation.failures import MEANT, NONFINITE, OK, STATUS, Failure, Failures
from sbi_flows.simulation.from_arrays import GIVEN, KIND, given_pairs, records_of
from sbi_flows.simulation.prior_test import doubts
from sbi_flows.simulation.settings import SimulateSettings, usual_rows

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
    made_of: what one y is made of; None where nothing but its shape is known.
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
    made_of: Events | None = field(default=None, repr=False)

    @property
    def events(self) -> Events:
        """What one y is made of."""
        return self.made_of or Events.plain(self.event_shape)

    @classmethod
    def from_arrays(
        cls,
        prior: Prior,
        theta: ArrayLike | Mapping[str, ArrayLike],
        y: Any,
        *,
        data: Any = None,
        missing: bool = False,
        name: str = GIVEN,
        seed: int = 0,
        block_size: int | None = None,
    ) -> Simulations:
        """n pairs that were made elsewhere: row i of y simulated at row i of theta, drawn from `prior`.

        theta: (n, d) array in the order of `prior.names`, one array per name, or a data frame with these
            columns. y: (n, *event) array, a list of n equal events, or a data frame (n, m); float32 stays.
            Rows of y with NaN or infinite values are "nonfinite", counted and left out of training. A mapping
            of names to such arrays, where y is made of several.
        data, missing: what y is, and whether NaN means "not observed", as for `sf.simulator`.
        name: stands where that of a simulator would. seed, block_size: recorded; the same as those of
            `sf.simulate`, with the name of the simulator, make what is fitted on them the same bytes.

        Gives a `SimulationWarning` where theta is clearly not drawn from `prior` (`simulation.prior_test`;
        draws of the prior are doubted with a chance of 1e-4), and where more than 5% of rows cannot be used.
        Raises `PriorError` for theta outside the prior or on its edge, `ShapeError` for shapes, names and
        numbers of rows that do not fit, `ObservationError` for what is not a finite number, `SettingsError`.
        """
        given = given_pairs(prior, theta, y, Declaration.of(data, missing))
        event_shape, n = given.y.shape[1:], len(given.codes)
        rows = usual_rows(event_shape) if block_size is None else integer("block_size", block_size)

        def source(k: int) -> Block:
            part = slice(k * rows, min((k + 1) * rows, n))
            codes = given.codes[part]
            return Block(
                part.start, given.theta[part], given.y[part], codes, (KIND,) * int((codes != OK).sum())
            )

        made = cls(
            prior=prior,
            codes=given.codes,
            event_shape=event_shape,
            dtype=given.y.dtype,
            seed=check_seed(seed),
            block_size=rows,
            simulator_name=str(name),
            source=source,
            records=records_of(prior, given, rows),
            arrays=(given.theta, given.y),
            made_of=given.events,
        )
        if text := doubts(prior, given.theta):
            warnings.warn(text, SimulationWarning, stacklevel=2)
        if float((given.codes != OK).mean()) > SimulateSettings().warn_failures:
            warnings.warn(made.failure_text(), SimulationWarning, stacklevel=2)
        return made

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in self.counts().items())
        return (
            f"Simulations({len(self):,} of {self.simulator_name!r}: theta ({', '.join(self.names)}), y "
            f"{self.event_shape if not self.events.named else f'({self.events.describe()})'}; {counts})"
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

    @property
    def y(self) -> Any:
        """All events, (n, *event), or a mapping of such arrays; NaN where a row failed or nothing was
        observed.
        """
        return self.events.unpack(self.flat_y)

    @cached_property
    def flat_y(self) -> Shaped[np.ndarray, " n *event"]:
        """All events, (n, *event), as one array also where they are a mapping."""
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
        if self.arrays is not None or {"theta", "flat_y"} <= vars(self).keys():
            return self.theta[rows], self.flat_y[rows]
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
            return self.theta, self.flat_y
        return self.theta[self.ok], self.flat_y[self.ok]

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

        variables: dict[str, Any] = {"theta": (("simulation", "parameter"), self.theta)}
        tables = self.y if self.events.named else {"y": self.y}
        for name, values in tables.items():
            event = [f"{name}_dim_{i}" for i in range(values.ndim - 1)]
            variables[name] = (("simulation", *event), values)
        variables["status"] = ("simulation", self.status)
        facts = {
            "simulator": self.simulator_name,
            "prior": repr(self.prior),
            "seed": self.seed,
            "block_size": self.block_size,
        }
        return xr.Dataset(variables, {"parameter": list(self.names)}, facts)

    def check_matches(self, prior: Prior, event_shape: tuple[int, ...], events: Events | None = None) -> None:
        """Raise `ShapeError` or `PriorError` unless these are simulations of such events, from that prior."""
        if events is not None and self.made_of is not None and not self.made_of.same_arrays(events):
            raise ShapeError(
                f"these simulations are of {self.simulator_name!r} with y of {self.made_of.describe()}; "
                f"wanted y of {events.describe()}. Simulate again with the simulator that you pass."
            )
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
