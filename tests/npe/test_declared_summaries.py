"""Summaries that a simulator declares join the input of the networks: of vectors and series, from memory,
from a bank and by the clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.errors import SettingsError, SimulatorContractError
from sbi_flows.npe import out_of_core as stream
from sbi_flows.npe.estimate import estimate
from sbi_flows.npe.online import parallel, throughput
from sbi_flows.npe.request import Request
from sbi_flows.simulation.workers import packed, unpacked

from ..conftest import QUICK
from ..hard import PRIOR, made, statistics, with_gaps
from .online.test_parallel import pool

FALSE_ALARM = norm.isf(1e-4)
SETTINGS = sf.FitSettings(
    width=32, layers=2, summary_features=8, members=1, train=sf.TrainSettings(epochs=15, batch_size=64)
)


def values_of(posterior: sf.Posterior, kind: str) -> list[Mapping[str, Any]]:
    return [note.values for note in posterior.notes if note.kind == kind]


def fresh(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    theta, y = sf.simulate(made(), n, seed=99).usable()
    return theta, y


def gained(posterior: sf.Posterior) -> tuple[float, float]:
    """The mean log density over that of the prior at 400 fresh pairs, in nats, and its standard error."""
    theta, y = fresh()
    gain = posterior.log_prob(theta, y) - PRIOR.log_prob(theta)
    return float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))


def uses_the_summaries(posterior: sf.Posterior) -> bool:
    """Reject, at 1e-4, that the mean gain over the prior is 1 nat or less. Exact is 2.5: each parameter is
    known to 0.028, of a uniform prior of width 0.4.
    """
    mean, error = gained(posterior)
    return (mean - 1) / error > FALSE_ALARM


@pytest.mark.parametrize("kind", ["vector", "series"])
def test_they_teach_the_network_what_the_raw_data_hide(kind: str) -> None:
    settings = replace(SETTINGS, summary=kind)
    sims = sf.simulate(made(), 2000, seed=1)
    with_them = sf.fit(made(), simulations=sims, seed=1, settings=settings, say=None)
    (said,) = values_of(with_them, "declared summaries")
    assert (said["count"], said["missing"], with_them.declared_summaries) == (2, 0, 2)
    assert uses_the_summaries(with_them)
    switched_off = replace(settings, declared_summaries=False)
    without = sf.fit(made(), simulations=sims, seed=1, settings=switched_off, say=None)
    assert values_of(without, "declared summaries left out") == [{"reason": "switch"}]
    assert values_of(without, "declared summaries") == []
    assert without.declared_summaries == 0
    theta, y = fresh()
    differences = with_them.log_prob(theta, y) - without.log_prob(theta, y)
    assert (differences.mean() - 1) / differences.std() * np.sqrt(len(differences)) > FALSE_ALARM
    undeclared = sf.fit(made(None), simulations=sims, seed=1, settings=settings, say=None)
    assert np.array_equal(undeclared.log_prob(theta, y), without.log_prob(theta, y))
    assert not [note for note in undeclared.notes if "declared" in note.kind]


def test_draws_say_that_they_were_seen_and_are_the_same_alone_and_in_a_stack() -> None:
    posterior = sf.fit(made(), n_simulations=800, seed=1, settings=QUICK, say=None)
    _, y = fresh(3)
    stack = posterior.sample(y, 50, seed=4)
    assert stack.facts["declared_summaries"] == 2
    alone = posterior.sample(y[0], 50, seed=4).to_numpy()
    np.testing.assert_allclose(stack.to_numpy()[0], alone, rtol=1e-9)  # the function may round otherwise
    assert "2 declared summaries" in repr(posterior)


def test_each_simulation_is_summarised_once(tmp_path: Path) -> None:
    rows: list[int] = []

    def counted(y: np.ndarray) -> np.ndarray:
        rows.append(len(y))
        return statistics(y)

    model = made(counted)
    sims = sf.simulate(model, 2000, seed=1)
    settings = replace(QUICK, members=2)
    estimate(PRIOR, sims, Request(settings=settings, declared=model.declared_summaries))
    assert 2000 <= sum(rows) < 2000 + 20
    assert len(rows) < 10


def test_a_bank_read_in_buffers_is_summarised_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "free_memory", lambda: 0)
    monkeypatch.setattr(stream, "BUFFER_BYTES", 200_000)
    sims = sf.simulate(made(), 3000, seed=1, store=tmp_path / "bank")
    posterior = sf.fit(
        made(), simulations=sf.read_bank(tmp_path / "bank"), seed=1, settings=SETTINGS, say=None
    )
    assert posterior.notes[0].kind == "buffers"
    assert uses_the_summaries(posterior)
    said: list[Any] = []
    sf.fit(made(), simulations=sims, settings=QUICK, say=said.append)
    (held,) = (note.values for note in said if note.kind == "simulations held")
    assert held["needed"] == sims.n_bytes + 4 * 3000 * (2 + 32 + 2)


def test_by_the_clock_they_join_here_and_in_the_processes_of_further_networks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_pool, given = pool(RuntimeError("not needed here"))
    monkeypatch.setattr(parallel, "local_workers", lambda workers: made_pool())
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    monkeypatch.setattr(parallel, "_LEAST_SECONDS", 0.5)
    monkeypatch.setattr(parallel, "_CLEARLY_FASTER", 0.0)
    monkeypatch.setattr(throughput, "_WORKERS_START_SECONDS", float("inf"))
    settings = replace(SETTINGS, members=2, train=None)
    posterior = sf.fit(made(), minutes=0.15, seed=1, settings=settings, say=None)
    assert values_of(posterior, "declared summaries")[0]["count"] == 2
    mean, error = gained(posterior)
    assert mean / error > FALSE_ALARM
    task = unpacked(given[0])
    trained = parallel._train(packed(replace(task, until=time.monotonic() + 2.0)))
    names = task.design.member(1).state_dict().keys()
    assert trained.used > 0
    assert set(trained.state) == set(names)
    assert any(name.startswith("summary.network.") for name in names)


def test_a_checkpoint_is_bound_to_the_summaries(tmp_path: Path) -> None:
    from sbi_flows.errors import BankMismatchError

    sf.fit(made(), n_simulations=800, settings=QUICK, checkpoint=tmp_path / "c", say=None)
    other = made(lambda y: statistics(y) ** 2)
    with pytest.raises(BankMismatchError):
        sf.fit(other, n_simulations=800, settings=QUICK, checkpoint=tmp_path / "c", say=None)


def test_columns_of_noise_are_hidden_and_the_summaries_seen() -> None:
    """All 32 columns of the data are uniform whatever theta is: the screen leaves the two summaries."""
    settings = replace(QUICK, members=2, summary="vector")
    posterior = sf.fit(made(), n_simulations=1000, seed=1, settings=settings, say=None)
    (said,) = values_of(posterior, "screen")
    assert said["columns"] == 34
    first, second = (member.summary.network.seen.bool().tolist() for member in posterior.estimator.members)
    assert first[32:] == [True, True]
    assert sum(first) == 34 - said["hidden"] <= 6
    assert second == [True] * 34


def test_a_summary_that_does_not_exist_everywhere_is_filled_and_counted() -> None:
    posterior = sf.fit(made(with_gaps), n_simulations=2000, seed=1, settings=SETTINGS, say=None)
    (said,) = values_of(posterior, "declared summaries")
    assert 100 < said["missing"] < 320  # binomial(2000, 0.1) leaves these bounds once in 1e12
    assert uses_the_summaries(posterior)
    theta, y = fresh()
    missing = y[:, 0] < 0.1
    assert np.isfinite(posterior.log_prob(theta, y)).all()
    assert all(verdict.level != "do not trust" for verdict in posterior.verdicts(y[missing][:20]))


def test_a_summary_that_is_not_finite_where_that_of_no_simulation_was_is_not_trusted() -> None:
    def fragile(y: np.ndarray) -> np.ndarray:
        return np.where(y[:, :1] == y[:, 1:2], np.inf, statistics(y))

    posterior = sf.fit(made(fragile), n_simulations=1000, seed=1, settings=QUICK, say=None)
    _, y = fresh(2)
    y[1, 0] = y[1, 1]
    usual, strange = posterior.verdicts(y)
    assert usual.level != "do not trust"
    assert strange.level == "do not trust"
    assert "2 of its declared summaries are not finite" in strange.text


def test_where_none_varies_none_joins_and_one_that_does_not_is_dropped() -> None:
    def one_of(y: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(y)), statistics(y)])

    constant = sf.fit(made(lambda y: np.ones((len(y), 2))), n_simulations=500, settings=QUICK, say=None)
    assert values_of(constant, "declared summaries left out") == [{"reason": "constant"}]
    assert constant.declared_summaries == 0
    some = sf.fit(made(one_of), n_simulations=500, settings=QUICK, say=None)
    (said,) = values_of(some, "declared summaries")
    assert said["count"] == some.declared_summaries == 2
    assert "1 constant column dropped" in said["scaling"]


def test_the_critic_bears_a_function_that_raises_for_corrupted_data() -> None:
    def particular(y: np.ndarray) -> np.ndarray:
        if ((y < 0) | (y >= 1)).any() or (y[:, 0] == np.round(y[:, 0], 2)).any():
            raise ValueError("not like a simulation")
        return statistics(y)

    posterior = sf.fit(made(particular), n_simulations=600, settings=QUICK, say=None)
    _, y = fresh(1)
    y[0, 0] = 0.25
    with pytest.raises(SimulatorContractError, match=r"not like a simulation for the event \[0\.25, "):
        posterior.sample(y[0], 10)


@pytest.mark.parametrize(
    ("summaries", "words"),
    [
        (lambda y: statistics(y) - statistics(y).mean(axis=0), "passed alone"),
        (lambda y: y.mean(axis=1), r"wanted \(\d+, k\)"),
        (lambda y: statistics(y) * 1e150, "hard.summaries: column 0"),
        (lambda y: [row["a"] for row in y], "raised IndexError"),
    ],
)
def test_summaries_that_break_their_contract_are_refused_in_words(summaries: Any, words: str) -> None:
    with pytest.raises(SimulatorContractError, match=words):
        sf.fit(made(summaries), n_simulations=500, settings=QUICK, say=None)


def test_the_switch_is_a_bool() -> None:
    with pytest.raises(SettingsError, match="declared_summaries must be True or False"):
        sf.FitSettings(declared_summaries=statistics)  # type: ignore[arg-type]


def test_what_judges_a_posterior_takes_one_that_saw_summaries(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    posterior = sf.fit(model, n_simulations=800, seed=1, settings=QUICK, say=None)
    _, y = fresh(1)
    assert sf.check(posterior, model, n=200, y_obs=y[0], seed=2).n == 200
    assert sf.recalibrate(posterior, model, n=500, n_check=100).posterior.declared_summaries == 2
    sims = sf.simulate(model, 800, seed=1)
    curve = sf.learning_curve(model, sims, sizes=[200, 400, 800], settings=QUICK)
    assert len(curve.sizes) == 3
    comparison = sf.compare(posterior, y[0], model, n=100)
    assert comparison.draws["neural posterior"].facts["declared_summaries"] == 2
