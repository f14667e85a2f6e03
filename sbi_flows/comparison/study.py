"""`sf.study`: the methods side by side on many data sets whose truth is known.

    theta_i ~ p(theta),  y_i ~ p(y | theta_i),  i = 1..m;   each method answers for each y_i

Averaged over such pairs, the exact posterior has the best proper scores, and its intervals hold the truth as
often as they say. Methods are compared in pairs, on the same data sets.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np

from sbi_flows.arrays import F, integer
from sbi_flows.comparison.methods import EXACT, LABELS, Answer, Bench, Budget, Methods, chosen
from sbi_flows.comparison.scores import by_parameter, energy
from sbi_flows.comparison.study_result import Study
from sbi_flows.diagnostics.distances import c2st
from sbi_flows.errors import BankMismatchError, CorruptFileError, SbiFlowsError, TooManyFailuresError
from sbi_flows.files import fingerprint, make_folder, write_bytes
from sbi_flows.notes import Notes, Say, check_say
from sbi_flows.posterior.posterior import Posterior, check_pair
from sbi_flows.problem.simulator import Simulator
from sbi_flows.rng import check_seed, stream
from sbi_flows.simulation.at import check_where
from sbi_flows.simulation.engine import simulate
from sbi_flows.simulation.settings import Place

_PRIOR_DRAWS, _SPARE, _MOST_SEED = 10_000, 1.5, 2**31
_LEAST_OBSERVATIONS, _LEAST_DRAWS = 2, 100


def study(
    posterior: Posterior,
    simulator: Simulator,
    *,
    observations: int = 100,
    methods: Methods = None,
    n_simulations: int | None = None,
    minutes: float | None = None,
    n: int = 1_000,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    say: Say | None = None,
    **where: Unpack[Place],
) -> Study:
    """Simulate `observations` data sets at draws from the prior, let each method answer for each of them, and
    score the answers against the truth.

    methods, n_simulations, minutes, where: as for `sf.compare`; every method that simulates for an
        observation may spend as much as the others.
    n: draws of the neural posterior.
    store: a folder that keeps the scores of each observation; the same call resumes after a stop.
    say: called with a line of text for each observation.

    Raises `SettingsError`, `TooManyFailuresError`, and what the neural posterior raises. What another method
    raises at an observation is noted in `left_out`, and that method has no row there.
    """
    check_pair(posterior, simulator, "study")
    check_where(where)
    check_say(say)
    m = integer("observations", observations, _LEAST_OBSERVATIONS)
    n, seed, names = integer("n", n, _LEAST_DRAWS), check_seed(seed), chosen(methods)
    budget = Budget(n_simulations=n_simulations, minutes=minutes)
    tell = say or (lambda text: None)
    theta, y, failed = _pairs(simulator, m, seed, where)
    bench = Bench(posterior, simulator, budget, None, where, tell)
    scale = simulator.prior.sample(_PRIOR_DRAWS, stream(seed, "prior of a study")).std(axis=0)
    shelf = _Shelf.at(store, _identity(posterior, names, budget, n, seed))
    records = []
    for i in range(m):
        record = shelf.read(i)
        if record is None:
            record = _one(bench, names, _Pair(i, theta[i], y[i], scale), n, seed)
            shelf.write(i, record)
        tell(f"observation {i + 1} of {m}: " + ", ".join(_brief(row) for row in record["answers"]))
        records.append(record)
    return Study(
        simulator_name=simulator.name,
        posterior=posterior,
        records=tuple(records),
        budget=budget.said,
        seed=seed,
        failed=failed,
    )


class _Pair(NamedTuple):
    """Data set i, its truth, and the standard deviations of the prior."""

    i: int
    theta: F
    y: F
    scale: F


def _pairs(simulator: Simulator, m: int, seed: int, where: Place) -> tuple[F, F, int]:
    """theta and y of m simulations that did not fail, and how many did."""
    wanted = m
    own = int(stream(seed, "study").integers(_MOST_SEED))
    while True:
        found = simulate(simulator, wanted, seed=own, **where)
        rows = np.flatnonzero(found.ok)[:m]
        if len(rows) == m:
            theta, y = found.gather(rows)
            return theta, np.asarray(y, dtype=np.float64), int(rows[-1]) + 1 - m
        if wanted > 100 * m:
            raise TooManyFailuresError(found.failure_text())
        wanted = int(_SPARE * wanted) + 1


def _one(bench: Bench, names: tuple[str, ...], pair: _Pair, n: int, seed: int) -> dict[str, Any]:
    """What each method answered for one data set, as JSON."""
    answers: dict[str, Answer] = {}
    notes = Notes()
    for name in names:
        try:
            found = bench.answer(name, pair.y, n, seed + pair.i)
        except (SbiFlowsError, ArithmeticError, np.linalg.LinAlgError) as error:
            if name == "neural":
                raise
            notes.note("method left out", method=LABELS[name], reason=f"{type(error).__name__}: {error}")
            continue
        if found is None:
            notes.note("no exact method")
        else:
            answers[LABELS[name]] = found
    return {
        "observation": pair.i,
        "answers": [_scored(method, answer, answers, pair) for method, answer in answers.items()],
        "parameters": [
            {"observation": pair.i, "method": method, **row}
            for method, answer in answers.items()
            for row in by_parameter(answer.draws, pair.theta, pair.scale)
        ],
        "left_out": [note.to_json() for note in notes],
    }


def _scored(method: str, answer: Answer, answers: dict[str, Answer], pair: _Pair) -> dict[str, Any]:
    draws = answer.draws
    return {
        "observation": pair.i,
        "method": method,
        "energy": energy(draws, pair.theta, pair.scale),
        "c2st": _distance(draws.to_numpy(), answers, method, pair.i),
        "ess": draws.ess,
        "verdict": draws.verdict.level,
        "seconds": answer.seconds,
        "seconds_before": answer.before,
        "simulations": int(draws.facts["simulations"]),
    }


def _distance(values: F, answers: dict[str, Answer], method: str, i: int) -> float | None:
    """C2ST from the exact posterior, where there is one."""
    if EXACT not in answers or method == EXACT:
        return None
    exact = answers[EXACT].draws.to_numpy()
    n = min(len(exact), len(values))
    rng = stream(i, "distances of a study")
    return c2st(rng.permutation(exact)[:n], rng.permutation(values)[:n])


def _brief(row: dict[str, Any]) -> str:
    return f"{row['method']} {row['energy']:.3f} in {row['seconds']:.2g} s"


def _identity(
    posterior: Posterior, names: tuple[str, ...], budget: Budget, n: int, seed: int
) -> dict[str, Any]:
    """What makes a study this one and no other; more observations extend it."""
    facts = {name: str(value) for name, value in posterior.facts.items() if name != "versions"}
    return {"posterior": fingerprint(facts), "methods": list(names), **budget.said, "n": n, "seed": seed}


class _Shelf(NamedTuple):
    """A folder with one file for each observation; or none."""

    folder: Path | None
    identity: dict[str, Any]

    @classmethod
    def at(cls, store: str | os.PathLike[str] | None, identity: dict[str, Any]) -> _Shelf:
        if store is None:
            return cls(None, identity)
        make_folder(store)
        return cls(Path(store), identity)

    def _path(self, i: int) -> Path | None:
        return None if self.folder is None else self.folder / f"observation_{i:06d}.json"

    def read(self, i: int) -> dict[str, Any] | None:
        """The record of observation i. Raises `BankMismatchError`, `CorruptFileError`."""
        path = self._path(i)
        if path is None or not path.exists():
            return None
        try:
            found = json.loads(path.read_bytes())
            identity, record = dict(found["identity"]), found["record"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFileError(f"{path}: is not a record of a study ({error}). Remove it.") from error
        if different := [name for name in self.identity if identity.get(name) != self.identity[name]]:
            what = ", ".join(
                "another posterior" if name == "posterior" else f"{name} {identity.get(name)!r}"
                for name in different
            )
            raise BankMismatchError(f"{path} is of another study ({what}). Choose another folder for store=.")
        return dict(record)

    def write(self, i: int, record: dict[str, Any]) -> None:
        path = self._path(i)
        if path is not None:
            write_bytes(path, json.dumps({"identity": self.identity, "record": record}).encode())
