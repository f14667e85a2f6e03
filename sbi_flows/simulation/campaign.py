"""What decides the bytes of a block, and the making of one.

Block k of a vectorised simulator draws its theta, and then everything the simulator uses, from
`SeedSequence(seed, spawn_key=(k,))`.

A simulator that runs one draw at a time is drawn on a grid of 1,000 rows whatever the block size: row 1000 g
+ j has theta from row j of `spawn_key=(g,)`, and a stream of its own, `spawn_key=(g, j)`.

If a vectorised simulator fails on a block, its rows (k, j) are run alone, each with the stream `spawn_key=(k,
j)`, so that only the bad ones are lost.

Where theta is given, block k has its rows k * block_size onward, and the same streams.

Which blocks run where, in what order and how often has no effect on the bytes.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F
from sbi_flows.errors import SimulatorContractError
from sbi_flows.problem.events import Events
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import block_stream
from sbi_flows.simulation.failures import NONFINITE, RAISED, SHAPE, STATUS, Failure, kind_of
from sbi_flows.simulation.simulations import Block

GRID, GIVEN_THETA = 1000, "theta"
_RECORDS_A_KIND, _RECORDS, _LONGEST_TEXT = 3, 20, 4000

Y = NDArray[np.floating]
Key = tuple[int, int]


@dataclass(frozen=True)
class Trouble:
    """Why a call gave no y."""

    code: int
    cause: str
    traceback: str = ""


class Runner(Protocol):
    """Where the simulator's function is called: in this process or in a child of it.

    contains_crashes: whether this process survives a call that hangs or crashes.
    """

    contains_crashes: bool

    def settle(self, event_shape: tuple[int, ...]) -> None:
        """Take the shape of one y, once it is known. Raises `SimulatorContractError` for another one."""

    def events(self) -> Events:
        """What one y is made of, once one has been made."""

    def run(self, theta: F, rng: np.random.Generator) -> Y | Trouble:
        """All rows of theta in one call."""

    def each(self, theta: F, seed: int, keys: list[Key]) -> Iterable[Y | Trouble]:
        """One row of theta at a time, row i from the stream of keys[i]."""


class InProcess:
    """The runner of this process: fast, but a hang hangs it and a crash ends it."""

    contains_crashes = False

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    def settle(self, event_shape: tuple[int, ...]) -> None:
        """Take the shape of one y."""
        self.simulator.settle(event_shape)

    def events(self) -> Events:
        """What one y is made of."""
        return self.simulator.events

    def run(self, theta: F, rng: np.random.Generator) -> Y | Trouble:
        """All rows of theta in one call."""
        try:
            return self.simulator.run(theta, rng)
        except SimulatorContractError as error:
            return Trouble(SHAPE, str(error))
        except (Exception, SystemExit) as error:
            text = "".join(traceback.format_exception(error))
            return Trouble(RAISED, f"{type(error).__name__}: {error}", text[-_LONGEST_TEXT:])

    def each(self, theta: F, seed: int, keys: list[Key]) -> Iterator[Y | Trouble]:
        """One row of theta at a time."""
        for i, key in enumerate(keys):
            yield self.run(theta[i : i + 1], block_stream(seed, *key))


@dataclass(frozen=True)
class Campaign:
    """A simulator, a seed, a block size, and the shape of an event, which need not be known elsewhere.

    theta: (n, d) at which to simulate, or None to draw from the prior.
    """

    simulator: Simulator
    seed: int
    block_size: int
    event_shape: tuple[int, ...]
    theta: F | None = None

    def rows(self, k: int, n: int) -> int:
        """How many rows of block k a campaign of n needs. A vectorised simulator makes whole blocks."""
        whole = self.simulator.vectorized and self.theta is None
        return self.block_size if whole else min(self.block_size, n - k * self.block_size)

    def to_json(self) -> dict[str, Any]:
        """What makes a campaign this one and no other."""
        events = self.simulator.events
        return {
            "simulator": self.simulator.name,
            "prior": self.simulator.prior.to_json(),
            "vectorized": self.simulator.vectorized,
            "event_shape": list(self.event_shape),
            "seed": self.seed,
            "block_size": self.block_size,
            **({} if events.is_plain else {"events": events.to_json()}),
            **({} if self.theta is None else {GIVEN_THETA: sha256(self.theta.tobytes()).hexdigest()}),
        }

    def keys(self, k: int, rows: int) -> list[Key]:
        """The streams of the rows of block k when they run alone."""
        if self.simulator.vectorized:
            return [(k, i) for i in range(rows)]
        return [divmod(row, GRID) for row in range(k * self.block_size, k * self.block_size + rows)]

    def draw(self, k: int, rows: int) -> tuple[F, np.random.Generator]:
        """theta of block k, and the generator as it then is."""
        prior, rng = self.simulator.prior, block_stream(self.seed, k)
        if self.theta is not None:
            return self.theta[k * self.block_size :][:rows], rng
        if self.simulator.vectorized:
            return prior.sample(self.block_size, rng), rng
        start = k * self.block_size
        grids = range(start // GRID, (start + rows - 1) // GRID + 1)
        theta = np.concatenate([prior.sample(GRID, block_stream(self.seed, g)) for g in grids])
        offset = start - grids[0] * GRID
        return theta[offset : offset + rows], rng


def make_block(campaign: Campaign, k: int, rows: int, runner: Runner) -> Block:
    """The first `rows` rows of block k: each with its y, or with NaN and what went wrong."""
    theta, rng = campaign.draw(k, rows)
    whole = runner.run(theta, rng) if campaign.simulator.vectorized else None
    if isinstance(whole, np.ndarray):
        return _with_causes(campaign, k, theta, whole, {})
    rows_alone = list(runner.each(theta, campaign.seed, campaign.keys(k, rows)))
    troubles = {i: out for i, out in enumerate(rows_alone) if isinstance(out, Trouble)}
    absent = np.full((1, *campaign.event_shape), np.nan, dtype=np.float32)
    y = np.concatenate([absent if isinstance(out, Trouble) else out for out in rows_alone])
    block = _with_causes(campaign, k, theta, y, troubles)
    return replace(block, alone=whole.cause) if isinstance(whole, Trouble) else block


def dead_block(campaign: Campaign, k: int, rows: int, trouble: Trouble) -> Block:
    """A block of which nothing came back."""
    theta, _ = campaign.draw(k, rows)
    y = np.full((rows, *campaign.event_shape), np.nan, dtype=np.float32)
    return _with_causes(campaign, k, theta, y, dict.fromkeys(range(rows), trouble))


def _bad_rows(y: Y, missing: bool) -> NDArray[np.int64]:
    """The rows that are not finite; where NaN means "not observed", those with infinite values or without
    any.
    """
    if missing:
        return np.flatnonzero(np.isinf(y).any(axis=1) | np.isnan(y).all(axis=1))
    return np.flatnonzero(~np.isfinite(y).all(axis=1))


def _with_causes(campaign: Campaign, k: int, theta: F, y: Y, troubles: dict[int, Trouble]) -> Block:
    """The block, with the status of each row and a sample of the failures."""
    rows, start = len(theta), k * campaign.block_size
    codes = np.zeros(rows, dtype=np.uint8)
    bad = _bad_rows(y.reshape(rows, -1), campaign.simulator.missing)
    if not len(bad):
        return Block(start, theta, y, codes)
    nothing = (
        "infinite output, or no observed value" if campaign.simulator.missing else "NaN or infinite output"
    )
    seen: dict[str, int] = {}
    kinds: list[str] = []
    records: list[Failure] = []
    for i in bad.tolist():
        trouble = troubles.get(i) or Trouble(NONFINITE, nothing)
        codes[i], kind = trouble.code, kind_of(trouble.cause, trouble.code)
        kinds.append(kind)
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= _RECORDS_A_KIND and len(records) < _RECORDS:
            named = campaign.simulator.prior.as_mapping(theta[i])
            where = {name: value.tolist() for name, value in named.items()}
            cause = trouble.cause[:_LONGEST_TEXT]
            records.append(Failure(start + i, k, STATUS[trouble.code], cause, trouble.traceback, where))
    return Block(start, theta, y, codes, tuple(kinds), tuple(records))
