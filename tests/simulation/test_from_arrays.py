"""Pairs made elsewhere: what is taken, what is refused in which words, and the same bytes as `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.errors import (
    InputError,
    ObservationError,
    PriorError,
    SettingsError,
    ShapeError,
    SimulationWarning,
    TooFewSimulationsError,
)
from sbi_flows.problem.events import Declaration
from sbi_flows.simulation.from_arrays import given_pairs

PRIOR = sf.Prior(a=uniform(0, 1), b=norm(0, 1))
N = 500


def pairs(n: int = N, prior: sf.Prior = PRIOR) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    theta = prior.sample(n, rng)
    return theta, theta[:, :1] + theta[:, 1:2] * rng.standard_normal((n, 3))


THETA, Y = pairs()


@pytest.mark.parametrize(
    "theta",
    [
        THETA,
        THETA.tolist(),
        {"b": THETA[:, 1], "a": THETA[:, 0]},
        pandas.DataFrame({"b": THETA[:, 1], "a": THETA[:, 0]}),
        torch.from_numpy(THETA),
    ],
    ids=["array", "list", "mapping", "frame", "torch"],
)
def test_theta_is_taken_as_it_comes(theta: Any) -> None:
    made = sf.Simulations.from_arrays(PRIOR, theta, Y)
    assert made.theta.tobytes() == THETA.tobytes()
    assert made.names == ("a", "b")


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        (Y, np.float64),
        (Y.tolist(), np.float64),
        (list(Y), np.float64),
        (pandas.DataFrame(Y), np.float64),
        (torch.from_numpy(Y), np.float64),
        (Y.astype(np.float32), np.float32),
        (torch.from_numpy(Y).float(), np.float32),
        (torch.from_numpy(Y).float().requires_grad_(), np.float32),
        (pandas.DataFrame(Y.astype(np.float32)), np.float32),
        (np.ma.masked_array(Y.astype(np.float32)), np.float32),
        (torch.from_numpy(Y).to(torch.bfloat16), np.float32),
        (Y.astype(np.int16), np.float64),
    ],
)
def test_y_is_taken_as_it_comes_and_float32_stays(y: Any, dtype: type) -> None:
    made = sf.Simulations.from_arrays(PRIOR, THETA, y)
    assert made.y.dtype == made.dtype == dtype
    assert made.event_shape == (3,)
    if dtype is np.float64:
        np.testing.assert_array_equal(made.y, np.asarray(y))


def test_they_behave_as_other_simulations_do() -> None:
    made = sf.Simulations.from_arrays(PRIOR, THETA, Y, block_size=60)
    assert len(made) == N
    assert made.n_blocks == 9
    blocks = [made.read_block(k) for k in range(made.n_blocks)]
    assert np.concatenate([block.theta for block in blocks]).tobytes() == THETA.tobytes()
    assert np.concatenate([block.y for block in blocks]).tobytes() == Y.tobytes()
    assert [block.start for block in blocks] == [60 * k for k in range(9)]
    rows = np.array([499, 3, 3, 61])
    assert np.array_equal(made.gather(rows)[1], Y[rows])
    assert np.array_equal(made.usable()[0], THETA)
    assert made.counts() == {"ok": N}
    assert (made.seed, made.simulator_name) == (0, "given pairs")
    assert repr(made) == "Simulations(500 of 'given pairs': theta (a, b), y (3,); 500 ok)"
    assert dict(made.to_xarray().sizes) == {"simulation": N, "parameter": 2, "y_dim_0": 3}
    assert sf.Simulations.from_arrays(PRIOR, THETA, Y).block_size == 1000


def test_the_users_arrays_are_copied() -> None:
    theta, y = THETA.copy(), Y.copy()
    made = sf.Simulations.from_arrays(PRIOR, theta, y)
    theta[:], y[:] = 0.5, 0.0
    assert np.array_equal(made.theta, THETA)
    assert np.array_equal(made.y, Y)


def test_rows_that_are_not_finite_are_counted_and_left_out() -> None:
    y = Y.copy()
    y[3, 1], y[7], y[130, 0] = np.nan, np.inf, np.nan
    made = sf.Simulations.from_arrays(PRIOR, THETA, y, block_size=100)
    assert made.counts() == {"ok": 497, "nonfinite": 3}
    assert made.status[3] == "nonfinite"
    assert len(made.usable()[0]) == 497
    text = made.failure_text()
    assert "3 of 500 simulations failed (3 nonfinite) and are left out" in text
    assert "NaN or infinite values" in text
    assert made.failures().table["count"].tolist() == [3]
    assert [record.row for record in made.records] == [3, 7, 130]
    assert made.records[2].block == 1
    masked = np.ma.masked_array(Y, np.isnan(np.where(np.arange(N)[:, None] == 5, np.nan, Y)))
    assert sf.Simulations.from_arrays(PRIOR, THETA, masked).counts() == {"ok": 499, "nonfinite": 1}


def test_many_such_rows_are_warned_of() -> None:
    y = Y.copy()
    y[:50] = np.nan
    with pytest.warns(SimulationWarning, match="50 of 500 simulations failed"):
        sf.Simulations.from_arrays(PRIOR, THETA, y)


def changed(row: int, column: int, value: float) -> np.ndarray:
    theta = THETA.copy()
    theta[row, column] = value
    return theta


@pytest.mark.parametrize(
    ("theta", "y", "error", "words"),
    [
        (THETA, Y[:-1], ShapeError, "theta has 500 rows and y has 499"),
        (changed(7, 0, 1.5), Y, PriorError, r"1 of 500 rows.*row 7: a = 1.5, outside \[0, 1\]"),
        (changed(7, 0, 1.0), Y, PriorError, "edge of the prior.*row 7: a = 1, b.*rounded"),
        (changed(9, 1, np.nan), Y, ObservationError, "row 9: b = nan"),
        (THETA[:, :1], Y, ShapeError, "one column for each of a, b"),
        (THETA[0], Y, ShapeError, "one column for each of a, b"),
        (THETA[:0], Y[:0], ShapeError, "at least one row"),
        ({"a": THETA[:, 0]}, Y, ShapeError, "a, b; missing.*b"),
        (pandas.DataFrame(THETA, columns=["a", "B"]), Y, ShapeError, "columns a, b, got a, B"),
        (pandas.DataFrame({"a": ["x"] * N, "b": THETA[:, 1]}), Y, ShapeError, "must be numbers"),
        (THETA, [Y[0], Y[1][:2]], ShapeError, r"differ: \(3,\), \(2,\).*NaN to the length of the longest"),
        (THETA, [["x"] * 3] * N, ObservationError, "y must be numbers"),
        (THETA, np.empty((N, 0)), ShapeError, "at least one number"),
        (THETA, 1.0, ShapeError, r"\(n, \*event\)"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    theta: Any, y: Any, error: type[InputError], words: str
) -> None:
    with pytest.raises(error, match=words):
        sf.Simulations.from_arrays(PRIOR, theta, y)


def test_the_other_arguments_are_checked() -> None:
    with pytest.raises(PriorError, match=r"sf\.Prior"):
        given_pairs({"a": uniform(0, 1)}, THETA, Y, Declaration.of(None, False))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="seed"):
        sf.Simulations.from_arrays(PRIOR, THETA, Y, seed=-1)
    with pytest.raises(SettingsError, match="block_size"):
        sf.Simulations.from_arrays(PRIOR, THETA, Y, block_size=0)


def test_one_parameter_may_come_as_one_column_without_a_name() -> None:
    prior = sf.Prior(a=uniform(0, 1))
    theta = prior.sample(50, np.random.default_rng(0))
    for given in (theta, theta[:, 0], theta[:, 0].tolist(), {"a": theta[:, 0]}):
        assert np.array_equal(sf.Simulations.from_arrays(prior, given, theta).theta, theta)


def test_theta_of_another_prior_is_warned_of() -> None:
    wide = sf.Prior(a=uniform(0, 1), b=norm(0, 2))
    with pytest.warns(SimulationWarning, match="does not look like draws of the prior: b "):
        sf.Simulations.from_arrays(wide, THETA, Y)


@sf.simulator(PRIOR, event_shape=(3,))
def noisy(theta: Any, rng: np.random.Generator) -> np.ndarray:
    return theta["a"][:, None] + np.exp(theta["b"])[:, None] * rng.standard_normal((len(theta["a"]), 3))


QUICK = sf.FitSettings(train=sf.TrainSettings(epochs=2), members=2)


def test_the_same_pairs_give_the_bytes_of_a_fit_on_simulate(tmp_path: Path) -> None:
    sims = sf.simulate(noisy, 1500, seed=3)
    np.save(tmp_path / "theta.npy", sims.theta)
    np.save(tmp_path / "y.npy", sims.y)
    theta, y = np.load(tmp_path / "theta.npy"), np.load(tmp_path / "y.npy")
    first = sf.fit(noisy, simulations=sims, seed=2, settings=QUICK, say=None)
    plain = sf.fit(simulations=sf.Simulations.from_arrays(PRIOR, theta, y), seed=2, settings=QUICK, say=None)
    for one, other in zip(
        first.estimator.state_dict().values(), plain.estimator.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    assert np.array_equal(first.log_prob(theta[:9], y[:9]), plain.log_prob(theta[:9], y[:9]))
    assert plain.facts["simulator"] == "given pairs"
    named = sf.Simulations.from_arrays(PRIOR, theta, y, name="noisy", seed=3, block_size=sims.block_size)
    first.save(tmp_path / "first")
    sf.fit(simulations=named, seed=2, settings=QUICK, say=None).save(tmp_path / "named")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "named").read_bytes()


@pytest.mark.slow
def test_a_hundred_thousand_pairs_from_two_files_give_the_same_bytes(tmp_path: Path) -> None:
    sims = sf.simulate(noisy, 100_000, seed=3)
    np.save(tmp_path / "theta.npy", sims.theta)
    np.save(tmp_path / "y.npy", sims.y)
    theta, y = np.load(tmp_path / "theta.npy"), np.load(tmp_path / "y.npy")
    given = sf.Simulations.from_arrays(PRIOR, theta, y, name="noisy", seed=3)
    short = sf.FitSettings(train=sf.TrainSettings(epochs=1), members=1, size="small")
    sf.fit(noisy, simulations=sims, settings=short, say=None).save(tmp_path / "one")
    sf.fit(simulations=given, settings=short, say=None).save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_too_few_pairs_are_refused_by_the_fit() -> None:
    with pytest.raises(TooFewSimulationsError):
        sf.fit(simulations=sf.Simulations.from_arrays(PRIOR, THETA[:10], Y[:10]), say=None)
