"""The simulation bank on disk: a folder of immutable shards, one per block, each with theta, y, codes and
causes together.

    ricker.bank/bank.json                       the campaign, for people and for a bank without blocks; made
                                                again from a shard if lost
    ricker.bank/0000/00000000.safetensors       block 0; 1,000 blocks per folder
    ricker.bank/writer.lock                     while it is being written

A shard appears by one rename, so a block is there whole or not at all, and can be read while others are
written. Every shard names its block and its campaign (simulator, prior, event shape, seed, block size) and
carries a SHA-256 of all of it. So the folder needs no index, a bank of something else is refused, and a block
with a changed bit is never taken for a good one.
"""

from __future__ import annotations

import itertools
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbi_flows.errors import (
    BankMismatchError,
    CorruptFileError,
    NonDeterministicSimulatorError,
    PriorError,
    SimulationWarning,
    StorageError,
)
from sbi_flows.files import fingerprint, make_folder, read_file, write_bytes, write_file
from sbi_flows.problem.prior import Prior, check_prior
from sbi_flows.simulation.assembly import Assembly
from sbi_flows.simulation.campaign import GIVEN_THETA
from sbi_flows.simulation.failures import Failure, pack_kinds, unpack_kinds
from sbi_flows.simulation.lock import writing
from sbi_flows.simulation.probe import different
from sbi_flows.simulation.settings import check_place
from sbi_flows.simulation.simulations import Block, Simulations

_KIND = "simulation block"
_FILES_A_FOLDER = 1000


@dataclass(frozen=True)
class Bank:
    """A bank and the campaign that it is, or is to be, of."""

    path: Path
    campaign: dict[str, Any]

    @classmethod
    def found(cls, path: str | os.PathLike[str]) -> Bank | None:
        """The bank at `path`, or None. Raises `StorageError`, `CorruptFileError`."""
        path = Path(path)
        with _storing(path):
            if path.exists() and not path.is_dir():
                raise StorageError(f"{path} is a file, not the folder of a bank. Choose another place.")
            for k in _present(path):
                with suppress(CorruptFileError):
                    return cls(path, _campaign(read_file(_shard(path, k), _KIND)[1]))
            try:
                manifest = (path / "bank.json").read_bytes()
            except FileNotFoundError:
                return None
        try:
            return cls(path, _campaign(json.loads(manifest)))
        except (ValueError, RecursionError, CorruptFileError) as error:
            why = f"bank.json cannot be read ({error}), and no block is whole."
            raise CorruptFileError(f"{path}: {why} Choose another folder.") from error

    def check(self, campaign: dict[str, Any]) -> None:
        """Raise `BankMismatchError`, with the difference, unless this bank is of that campaign."""
        differences = [
            f"{key}: {_show(key, self.campaign.get(key))} there, {_show(key, value)} here"
            for key, value in campaign.items()
            if self.campaign.get(key) != value
        ]
        if differences or fingerprint(self.campaign) != fingerprint(campaign):
            what = "; ".join(differences) or "written by another version of sbi_flows"
            advice = "Choose another folder, or repeat that call."
            raise BankMismatchError(f"{self.path} is a bank of another campaign ({what}). {advice}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the bank for writing. It is made if need be, and rid of what killed writers left unfinished.

        Raises `BankLockedError`, `StorageError`, and `BankMismatchError` if another campaign has just begun.
        """
        make_folder(self.path)
        with writing(self.path):
            with _storing(self.path):
                self._begin()
            yield

    def _begin(self) -> None:
        if (found := Bank.found(self.path)) is not None:
            found.check(self.campaign)
        text = (json.dumps({"kind": "simulation bank", "campaign": self.campaign}, indent=1) + "\n").encode()
        manifest = self.path / "bank.json"
        if not manifest.is_file() or manifest.read_bytes() != text:
            write_bytes(manifest, text)
        for part in [*self.path.glob(".bank.json.*.part"), *self.path.glob("[0-9]*/.*.part")]:
            part.unlink(missing_ok=True)

    def present(self) -> list[int]:
        """The numbers of the blocks that are there."""
        with _storing(self.path):
            return _present(self.path)

    def blocks(self, count: int, damaged: list[int]) -> Iterator[tuple[int, Block]]:
        """The blocks among the first `count`, verified. Those that are not whole are added to `damaged`."""
        for k in self.present():
            if k < count:
                try:
                    yield k, self.load(k)
                except CorruptFileError:
                    damaged.append(k)

    def set_aside(self, k: int) -> Path:
        """Rename a damaged shard, so that its block can be made again and nothing is lost."""
        shard = _shard(self.path, k)
        names = (f"{shard.name}.damaged{i or ''}" for i in itertools.count())
        aside = next(place for name in names if not (place := shard.with_name(name)).exists())
        with _storing(aside):
            os.replace(shard, aside)
        return aside

    def load(self, k: int) -> Block:
        """Block k, verified. Raises `StorageError`, `CorruptFileError`, `BankMismatchError`."""
        shard = _shard(self.path, k)
        arrays, manifest = read_file(shard, _KIND)
        if manifest.get("block") != k:
            raise CorruptFileError(
                f"{shard} holds block {manifest.get('block')}, not {k}. Put the file back under its own name."
            )
        if manifest.get("campaign") != self.campaign:
            Bank(shard, _campaign(manifest)).check(self.campaign)
        try:
            start, kinds = k * self.campaign["block_size"], unpack_kinds(manifest["kinds"])
            failures = tuple(Failure(**failure) for failure in manifest["failures"])
            return Block(start, arrays["theta"], arrays["y"], arrays["codes"], kinds, failures)
        except (KeyError, TypeError, IndexError) as error:
            why = f"a part of the block is missing ({error!r}). Move the file away."
            raise CorruptFileError(f"{shard}: {why}") from error

    def commit(self, k: int, block: Block) -> None:
        """Put block k on disk; it counts once this returns.

        Raises `StorageError`, and `NonDeterministicSimulatorError` if stored rows of that block differ.
        """
        shard = _shard(self.path, k)
        make_folder(shard.parent)
        with _storing(shard):
            there = shard.exists()
        if there:
            stored = self.load(k)
            if not same_rows(stored, block):
                why = different(self.campaign["simulator"], f"block {k}, made twice,")
                raise NonDeterministicSimulatorError(why)
            if len(stored) >= len(block):
                return
        manifest = {
            "kind": _KIND,
            "block": k,
            "campaign": self.campaign,
            "kinds": pack_kinds(block.kinds),
            "failures": [asdict(failure) for failure in block.failures],
        }
        write_file(shard, {"theta": block.theta, "y": block.y, "codes": block.codes}, manifest)


def same_rows(one: Block, other: Block) -> bool:
    """Whether the rows that both have are the same bytes, but for those that timed out or died in one."""
    rows = min(len(one), len(other))
    one, other = one.first(rows), other.first(rows)
    both = (one.codes == other.codes) | ((one.codes <= 2) & (other.codes <= 2))
    same_y = np.array_equal(one.y[both], other.y[both], equal_nan=True)
    return same_y and one.theta.tobytes() == other.theta.tobytes()


def first_difference(there: Block, here: Block) -> str:
    """In words, the first number in which two blocks of the same rows differ."""
    for name in ("theta", "y"):
        one, other = getattr(there, name)[: len(here)], getattr(here, name)[: len(there)]
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        if not same.all():
            at = tuple(np.argwhere(~same)[0])
            row = there.start + at[0]
            return f"{name} of row {row} was {one[at]:.6g} there and is {other[at]:.6g} here"
    return "in the status of its rows"


def read_bank(path: str | os.PathLike[str], *, prior: Prior | None = None) -> Simulations:
    """All committed rows of a bank up to the first gap, as `Simulations`; also while it is being written.

    prior: needed only where a marginal was a function of earlier parameters, or a class of your own, which a
        file cannot hold; it must be that of the bank.

    Each block is verified. theta and y are read from the folder when they are needed. Raises `StorageError`
    where there is no bank, `CorruptFileError` for a damaged block, which `sf.simulate` makes again, and
    `PriorError`.
    """
    check_place(path)
    if prior is not None:
        check_prior(prior, "sf.read_bank(path, prior=simulator.prior)")
    bank = Bank.found(path)
    present = [] if bank is None else bank.present()
    if bank is None or not present:
        how = f"sf.simulate(simulator, n, store={str(path)!r})"
        error = StorageError(f"{path}: there is no simulation bank. Make one with {how}.")
        error.exit_code = 2
        raise error
    assembly = Assembly()
    for k in present:
        if k != assembly.count:
            break
        block = bank.load(k)
        assembly.add(k, block)
        if len(block) < bank.campaign["block_size"]:
            break
    if 0 < assembly.count < len(present):
        warnings.warn(
            f"{path}: block {assembly.count} is missing or not full, so the "
            f"{len(present) - assembly.count:,} blocks after it are not read. If no run is writing the bank "
            "just now, repeat the sf.simulate call that made it.",
            SimulationWarning,
            stacklevel=2,
        )
    if not assembly.count:
        raise StorageError(f"{path}: the first block is missing. Repeat the sf.simulate call that made it.")
    if prior is not None:
        prior.check_stored(bank.campaign["prior"])
    if GIVEN_THETA in bank.campaign:
        raise BankMismatchError(
            f"{path} holds simulations at theta that a method chose for one observation, not draws from the "
            "prior: a posterior fitted on them would be wrong. Simulate a bank with sf.simulate."
        )
    return assembly.simulations(Prior.from_json(bank.campaign["prior"], prior), bank.campaign, bank.load)


def _shard(path: Path, k: int) -> Path:
    return path / f"{k // _FILES_A_FOLDER:04d}/{k:08d}.safetensors"


def _present(path: Path) -> list[int]:
    """The numbers of the blocks that are there, each under its own name."""
    shards = path.glob("[0-9]*/[0-9]*.safetensors")
    numbers = {shard: int(shard.stem) for shard in shards if shard.stem.isdecimal()}
    return sorted(k for shard, k in numbers.items() if shard == _shard(path, k))


def _campaign(manifest: Any) -> dict[str, Any]:
    """The campaign that a manifest names. Raises `CorruptFileError` if it names none."""
    campaign = manifest.get("campaign") if isinstance(manifest, dict) else None
    if isinstance(campaign, dict) and isinstance(campaign.get("prior"), dict | list):
        size, seed, event = map(campaign.get, ("block_size", "seed", "event_shape"))
        whole = isinstance(event, list) and all(type(k) is int for k in (seed, *event))
        if whole and type(size) is int and size > 0:
            return campaign
    raise CorruptFileError("the manifest names no campaign")


@contextmanager
def _storing(place: Path) -> Iterator[None]:
    """Raise `StorageError` where the operating system refuses."""
    try:
        yield
    except OSError as error:
        why = f"cannot be used ({error}). Choose another place, or repair it and repeat the call."
        raise StorageError(f"{place}: {why}") from error


def _show(key: str, value: Any) -> str:
    if key == "prior":
        with suppress(PriorError, TypeError, KeyError):
            return repr(Prior.from_json(value))
    return str(value)
