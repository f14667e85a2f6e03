"""The simulations of a sequential method: at given theta, within a budget, counted, on disk if there is a
store, and the same for any number of workers.

Each call has a seed of its own, from the seed of the run and its place: call j of generation g. So a run that
resumes at a generation makes the same calls again, and finds those that were finished in their banks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sbi_flows.arrays import F, real
from sbi_flows.baselines.budget import SIMULATIONS, Budget, SpentError
from sbi_flows.baselines.target import Target
from sbi_flows.errors import SimulationWarning, TooManyFailuresError
from sbi_flows.files import make_folder
from sbi_flows.machine import usable_cores
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import stream
from sbi_flows.simulation.at import check_where, simulate_at
from sbi_flows.simulation.failures import OK, STATUS
from sbi_flows.simulation.lock import writing
from sbi_flows.simulation.pool import KeptPool
from sbi_flows.simulation.settings import Place, SimulateSettings, Where

Progress = Callable[[int, int, str], None]
NOT_FINITE = "summaries not finite"
_FEW, _MOST_FAILURES = 200, 0.5


@dataclass
class Runs:
    """Simulates summaries, and counts what failed.

    target: what is aimed at. Its stand-ins for missing values are those of the first call.
    store: where banks are kept, or None.
    where: as of `simulate_at`. most_failures: the share of all simulations that may fail.
    text: what is said with the progress.
    counts: simulations by what came of them: the words of `simulation.failures.STATUS`, and "summaries not
        finite". cause: of the first failure.
    """

    target: Target
    budget: Budget
    seed: int
    store: Path | None
    where: Where
    most_failures: float
    progress: Progress | None
    text: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    cause: str = ""
    row_seconds: float | None = None

    @property
    def simulator(self) -> Simulator:
        """Whose summaries these are."""
        return self.target.simulator

    @property
    def failed(self) -> dict[str, int]:
        """Of `counts`, what failed."""
        return {name: count for name, count in self.counts.items() if name != STATUS[OK]}

    def at(self, theta: F, generation: int, call: int) -> F:
        """Summaries (n, k) at theta (n, d); NaN in rows that failed, or of which a summary is not finite.

        Raises `SpentError` where they do not fit into the budget, and `TooManyFailuresError`.
        """
        return self.summarised(*self.simulated(theta, generation, call))

    def simulated(self, theta: F, generation: int, call: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """y (n, *event) at theta (n, d), and which rows can be used. Raises as `at`."""
        if self.budget.room(len(theta)) < len(theta):
            raise SpentError(SIMULATIONS)
        began = time.monotonic()
        made, _ = simulate_at(
            self.simulator,
            theta,
            seed=int(stream(self.seed, f"abc call {generation}", call).integers(2**62)),
            store=self._place(generation, call),
            progress=self._watch,
            row_seconds=self.row_seconds,
            **self.where,
        )
        if self.row_seconds is None:
            self.row_seconds = (time.monotonic() - began) / len(theta)
        self.budget.made += len(theta)
        counts = made.counts()
        self._count(counts, made.records[0].cause if made.records else "")
        return made.flat_y, made.ok

    def summarised(self, y: NDArray[Any], ok: NDArray[np.bool_], *, counted: bool = True) -> F:
        """Summaries (n, k) of simulations; NaN in rows that are not ok, or of which one is not finite.

        counted: whether they are of this run, and not made before.
        """
        if self.target.fill is None and ok.any():
            self.target = self.target.filled_from(y[ok])
        summaries = np.full((len(y), len(self.target.summaries)), np.nan)
        if ok.any():
            with np.errstate(all="ignore"):
                summaries[ok] = self.target.summarise(y[ok])
        unusable = ~np.isfinite(summaries).all(axis=1)
        summaries[unusable] = np.nan
        if (count := int((unusable & ok).sum())) and counted:
            self._count({NOT_FINITE: count, STATUS[OK]: -count}, "a summary is NaN or infinite")
        return summaries

    def refill(self, fill: F | None) -> None:
        """Take the stand-ins for missing values from an earlier call."""
        if fill is not None:
            self.target = replace(self.target, fill=fill)

    def _place(self, generation: int, call: int) -> Path | None:
        if self.store is None:
            return None
        folder = calls_of(self.store, generation)
        make_folder(folder)
        return folder / f"{call:04d}.bank"

    def _watch(self, done: int, n: int) -> None:
        self.budget.check_time()
        if self.progress is not None:
            budget = self.budget
            more = 0 if budget.n is None else done
            self.progress(min(budget.done + more, budget.total), budget.total, self.text)

    def _count(self, found: dict[str, int], cause: str) -> None:
        for name, count in found.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.cause = self.cause or cause
        made, failed = sum(self.counts.values()), sum(self.failed.values())
        if made >= _FEW and failed > self.most_failures * made:
            raise TooManyFailuresError(
                f"{self.simulator.name}: {failed:,} of the first {made:,} simulations failed, more than "
                f"max_failures={self.most_failures:g}. First cause: {self.cause}. Fix the simulator or the "
                "prior, or allow more."
            )


def calls_of(store: Path, generation: int) -> Path:
    """The folder of the banks of one generation."""
    return store / f"generation_{generation:04d}"


@contextmanager
def running(
    target: Target,
    budget: Budget,
    seed: int,
    store: Path | None,
    settings: SimulateSettings | None,
    progress: Progress | None,
    place: Place,
) -> Iterator[Runs]:
    """The simulations of one run, which alone writes to the store; a warning in the end of what failed."""
    check_where(place)
    settings = settings or SimulateSettings()
    most = real("max_failures", place.get("max_failures", _MOST_FAILURES), most=1)
    where = Where(**{**place, "max_failures": 1.0, "settings": replace(settings, warn_failures=1.0)})
    with ExitStack() as stack:
        if where.get("executor") is None and (where.get("workers") or where.get("time_limit")):
            pool = KeptPool(where.get("workers") or usable_cores())
            stack.callback(pool.close)
            if pool.workers > 1 or where.get("time_limit"):
                where["executor"], where["workers"] = pool, pool.workers
        if store is not None:
            make_folder(store)
            stack.enter_context(writing(store))
        runs = Runs(target, budget, seed, store, where, most, progress)
        yield runs
    made, failed = sum(runs.counts.values()), sum(runs.failed.values())
    if failed > settings.warn_failures * made:
        counts = ", ".join(f"{count:,} {name}" for name, count in runs.failed.items())
        warnings.warn(
            f"{failed:,} of {made:,} simulations failed ({counts}) and count as rejected. First cause: "
            f"{runs.cause}. If failing depends on theta, the posterior is that of the prior truncated to the "
            "part that runs.",
            SimulationWarning,
            stacklevel=4,
        )
