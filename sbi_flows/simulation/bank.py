"""The simulation bank on disk: a folder of immutable shards, one a block, each holding theta, y, status and causes together.

A shard appears by one rename, so a block is there whole or not at all. Every shard repeats the campaign in its header (simulator,
prior, event shape, seed, block size), so that the folder needs no index and a bank of something else is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from sbi_flows.errors import BankMismatchError, CorruptFileError, StorageError
from sbi_flows.files import fingerprint, read_file, write_file
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.simulations import Failure, Simulations

_KIND = "simulation block"
_FILES_A_FOLDER = 1000


@dataclass(frozen=True)
class Block:
    """The rows of one block."""

    theta: Float[np.ndarray, "rows d"]
    y: Shaped[np.ndarray, " rows *event"]
    codes: UInt8[np.ndarray, " rows"]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Bank:
    """A bank opened for one campaign."""

    path: Path
    campaign: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike[str], simulator: Simulator, seed: int, block_size: int) -> Bank:
        """Open or create the bank at `path`. Raises `BankMismatchError` if it belongs to another campaign."""
        campaign = {
            "simulator": simulator.name,
            "prior": simulator.prior.to_json(),
            "event_shape": list(simulator.event_shape),
            "seed": seed,
            "block_size": block_size,
        }
        bank = cls(Path(path), campaign)
        try:
            bank.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{path}: the folder of the bank cannot be made ({error}).") from error
        for k in bank._present()[:1]:
            bank._load(k)
        return bank

    def read(self, count: int) -> Iterator[tuple[int, Block]]:
        """The committed blocks among the first `count`."""
        for k in self._present():
            if k < count:
                yield k, self._load(k)

    def commit(self, k: int, block: Block) -> None:
        """Put block k on disk; it counts from the moment this returns."""
        shard = self._shard(k)
        shard.parent.mkdir(exist_ok=True)
        manifest = {
            "kind": _KIND,
            "block": k,
            "campaign": self.campaign,
            "campaign_id": fingerprint(self.campaign),
            "failures": [asdict(failure) for failure in block.failures],
        }
        write_file(shard, {"theta": block.theta, "y": block.y, "codes": block.codes}, manifest)

    def _shard(self, k: int) -> Path:
        return self.path / f"{k // _FILES_A_FOLDER:04d}" / f"{k:08d}.safetensors"

    def _present(self) -> list[int]:
        return sorted(int(shard.stem) for shard in self.path.glob("[0-9]*/[0-9]*.safetensors") if shard.stem.isdigit())

    def _load(self, k: int) -> Block:
        arrays, manifest = read_file(self._shard(k), _KIND)
        if manifest["block"] != k:
            raise CorruptFileError(f"{self._shard(k)} holds block {manifest['block']}, not {k}. Put the file back under its own name.")
        found = manifest["campaign"]
        if fingerprint(found) != fingerprint(self.campaign):
            differences = [
                f"{key}: {found.get(key)} there, {value} here" for key, value in self.campaign.items() if found.get(key) != value
            ]
            raise BankMismatchError(
                f"{self.path} is a bank of another campaign ({'; '.join(differences)}). Choose another folder, or repeat that call."
            )
        failures = tuple(Failure(**failure) for failure in manifest["failures"])
        return Block(arrays["theta"], arrays["y"], arrays["codes"], failures)


def read_bank(path: str | os.PathLike[str]) -> Simulations:
    """All committed rows of a bank up to the first gap, as `Simulations`. Raises `StorageError` where there is none."""
    shards = sorted(Path(path).glob("[0-9]*/[0-9]*.safetensors"))
    if not shards:
        error = StorageError(f"{path}: there is no simulation bank. Make one with sf.simulate(simulator, n, store={str(path)!r}).")
        error.exit_code = 2
        raise error
    _, manifest = read_file(shards[0], _KIND)
    campaign = manifest["campaign"]
    bank = Bank(Path(path), campaign)
    blocks: list[Block] = []
    for k, block in bank.read(len(shards)):
        if k != len(blocks):
            break
        blocks.append(block)
        if len(block.codes) < campaign["block_size"]:
            break
    if not blocks:
        raise StorageError(f"{path}: the first block of the bank is missing. Repeat the sf.simulate call that made it.")
    return Simulations(
        prior=Prior.from_json(campaign["prior"]),
        theta=np.concatenate([block.theta for block in blocks]),
        y=np.concatenate([block.y for block in blocks]),
        codes=np.concatenate([block.codes for block in blocks]),
        seed=campaign["seed"],
        block_size=campaign["block_size"],
        simulator_name=campaign["simulator"],
        failures=tuple(failure for block in blocks for failure in block.failures),
    )
