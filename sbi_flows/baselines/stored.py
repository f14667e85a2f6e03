"""The finished generations of a run on disk, so that the same call resumes after a kill.

    store/0003.generation               particles, regions, records; it appears by one rename
    store/generation_0003/0000.bank     the simulations of call 0 of generation 3 (`simulation.bank`)

A generation counts once its file is there. What was simulated of the next one is in its banks.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from sbi_flows.baselines.runs import Runs
from sbi_flows.errors import BankMismatchError, CorruptFileError, SimulationWarning
from sbi_flows.files import Arrays, read_file, write_file

_KIND = "ABC generation"


@dataclass(frozen=True)
class Store:
    """The files of one run. run: what makes it this one and no other, as JSON."""

    path: Path | None
    run: dict[str, Any]

    def save(self, number: int, arrays: Arrays, facts: dict[str, Any], runs: Runs) -> None:
        """Put a generation on disk, with what has been simulated so far. Raises `StorageError`."""
        if self.path is None:
            return
        fill = runs.target.fill
        manifest = {
            "kind": _KIND,
            "number": number,
            "run": self.run,
            "counts": runs.counts,
            "cause": runs.cause,
            "made": runs.budget.made,
            "seconds": runs.budget.used,
            "facts": facts,
        }
        write_file(_file(self.path, number), arrays if fill is None else {**arrays, "fill": fill}, manifest)

    def latest(self, runs: Runs) -> tuple[int, Arrays, dict[str, Any]] | None:
        """The last generation that is whole, if there is one; `runs` then continues from it.

        Raises `BankMismatchError` for one of another run, and `StorageError`.
        """
        if self.path is None:
            return None
        for place in sorted(self.path.glob("[0-9]*.generation"), reverse=True):
            try:
                arrays, manifest = read_file(place, _KIND)
            except CorruptFileError as error:
                warnings.warn(f"{error} It is made again.", SimulationWarning, stacklevel=2)
                continue
            self._check(manifest["run"])
            runs.counts.update(manifest["counts"])
            runs.cause = manifest["cause"]
            runs.budget.made, runs.budget.before = manifest["made"], manifest["seconds"]
            runs.refill(arrays.pop("fill", None))
            return int(manifest["number"]), arrays, manifest["facts"]
        return None

    def _check(self, there: dict[str, Any]) -> None:
        different = [
            f"{name}: {there.get(name)} there, {value} here"
            for name, value in self.run.items()
            if there.get(name) != value
        ]
        if different:
            raise BankMismatchError(
                f"{self.path} is the store of another run ({'; '.join(different)[:500]}). Choose another "
                "folder, or repeat that call."
            )


def identity(runs: Runs, method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What makes a run this one and no other."""
    observed = runs.target.observed
    return {
        "method": method,
        **settings,
        "simulator": runs.simulator.name,
        "prior": runs.simulator.prior.to_json(),
        "seed": runs.seed,
        "observed": sha256(np.ascontiguousarray(observed).tobytes()).hexdigest(),
        "summaries": sha256(runs.target.summaries.tobytes()).hexdigest(),
    }


def _file(path: Path, number: int) -> Path:
    return path / f"{number:04d}.generation"
