"""A cell of the benchmark resumes where it was interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.diagnostics import distances
from tests.benchmarks import cells, references
from tests.benchmarks.cells import Cell, F, Fitted, finished, read, run
from tests.benchmarks.references import Reference
from tests.benchmarks.table import records

CELL = Cell("two_moons", 100, quick=True)
PAST = 0.0


def exact(task: str, number: str, *, published: Path | None = None, n: int = 60) -> Reference:
    simulator = sf.load_simulator(task)
    assert simulator.exact_posterior is not None
    return Reference(
        simulator.exact_posterior(simulator.data(number), n, np.random.default_rng(int(number))),
        "closed form",
        n,
    )


class Fits:
    """Counts its calls, and draws from the exact posterior."""

    calls = 0

    def __call__(
        self, cell: Cell, simulator: sf.Simulator, simulations: sf.Simulations, held_out: tuple[F, F]
    ) -> Fitted:
        self.calls += 1
        assert len(simulations) == cell.budget
        draws = np.stack(
            [exact(cell.task, str(7 - int(number)), n=cell.draws).draws for number in cell.observations]
        )
        return Fitted(draws, {"fit": 1.0, "sample": 1.0}, simulator.prior.log_prob(held_out[0]), {})


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "QUICK_DRAWS", 60)
    monkeypatch.setattr(cells, "QUICK_HELD_OUT", 50)
    monkeypatch.setattr(cells, "reference", exact)
    monkeypatch.setattr(cells, "c2st", lambda reference, draws: float(np.square(reference - draws).mean()))


def test_an_interrupted_cell_ends_with_the_scores_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, parts = Fits(), Fits()
    scores = run(CELL, tmp_path / "whole", whole, None)["c2st"]
    done = []
    for _ in range(4):
        record = run(CELL, tmp_path / "parts", parts, None, until=PAST)
        done.append(len(record["c2st"]))
        assert len(records(tmp_path / "parts", quick=True)) == (len(done) == 4)
    assert (done, parts.calls, whole.calls) == ([0, 1, 2, 3], 1, 1)
    assert record["c2st"] == scores
    assert record["held_out"] == {"mean": pytest.approx(-2 * np.log(2)), "error": 0.0, "pairs": 50}


def test_a_finished_cell_is_not_run_again_and_leaves_one_file(tmp_path: Path) -> None:
    fits = Fits()
    first = run(CELL, tmp_path, fits, None)
    assert finished(first)
    assert run(CELL, tmp_path, fits, None) == first
    assert fits.calls == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{CELL.name}.json"]
    assert records(tmp_path, quick=False) == []


def test_scores_of_other_processes_are_those_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the first score, so that the next call scores the rest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cells, "c2st", distances.c2st)
    monkeypatch.setattr(cells, "reference", references.reference)
    scores = run(CELL, tmp_path / "here", Fits(), None)["c2st"]
    run(CELL, tmp_path / "there", Fits(), None, until=PAST)
    first = run(CELL, tmp_path / "there", Fits(), None, until=PAST, processes=2)
    assert len(first["c2st"]) == 1
    record = run(CELL, tmp_path / "there", Fits(), None, processes=2)
    assert finished(record)
    assert record["c2st"] == scores


def test_lost_draws_are_made_again(tmp_path: Path) -> None:
    fits = Fits()
    run(CELL, tmp_path, fits, None, until=PAST)
    (tmp_path / f"{CELL.name}.draws.npz").unlink()
    assert finished(run(CELL, tmp_path, fits, None))
    assert fits.calls == 2


def test_one_name_never_stands_for_two_settings(tmp_path: Path) -> None:
    run(
        Cell("two_moons", 100, "sbi_flows maf", quick=True, settings={"flow": "maf"}),
        tmp_path,
        Fits(),
        None,
        until=PAST,
    )
    with pytest.raises(ValueError, match="--label"):
        read(tmp_path, Cell("two_moons", 100, "sbi_flows maf", quick=True, settings={"flow": "nsf"}))
    names = {
        Cell("slcp", 1000, *rest).name
        for rest in [("sbi", 1), ("sbi_flows", 1), ("sbi_flows", 2), ("sbi_flows", 1, True)]
    }
    assert len(names) == 4
