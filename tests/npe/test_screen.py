"""Columns that say nothing about the parameters are hidden from all members but one; the mixture weights tell
whether that was right.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import norm

import sbi_flows as sf
from sbi_flows.npe.settings import FitSettings
from sbi_flows.training.settings import TrainSettings

SETTINGS = FitSettings(
    layers=3,
    width=32,
    summary_features=8,
    members=3,
    train=TrainSettings(epochs=20, batch_size=64, learning_rate=4e-3),
)


def made(columns: int) -> sf.Simulator:
    """Two columns about theta, then columns of noise."""

    @sf.simulator(sf.Prior(a=norm(0, 1), b=norm(0, 1)))
    def informative(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        centre = np.stack([theta["a"], theta["b"]], axis=1)
        return np.hstack(
            [centre + 0.3 * rng.standard_normal(centre.shape), rng.standard_normal((len(centre), columns))]
        )

    return informative


def seen(posterior: sf.Posterior) -> list[list[bool]]:
    return [member.summary.seen.bool().tolist() for member in posterior.estimator.members]


def test_noise_is_hidden_from_all_members_but_one_and_it_is_said(tmp_path: Path) -> None:
    simulator = made(20)
    posterior = sf.fit(simulator, n_simulations=500, seed=1, settings=SETTINGS, say=None)
    first, second, third = seen(posterior)
    assert second == [True] * 22
    assert first == third
    assert first[:2] == [True] * 2
    assert sum(first) <= 4
    (note,) = [note for note in posterior.notes if note.kind == "screen"]
    assert note.values == {"hidden": 22 - sum(first), "columns": 22, "member": 2}
    assert posterior.estimator.mixture_weights[1] < min(
        posterior.estimator.mixture_weights[0], posterior.estimator.mixture_weights[2]
    )
    theta, y = (
        np.zeros((50, 2)),
        simulator.run(simulator.prior.sample(50, np.random.default_rng(2)), np.random.default_rng(3)),
    )
    posterior.save(tmp_path / "p.safetensors")
    again = sf.load(tmp_path / "p.safetensors")
    assert seen(again) == [first, second, third]
    np.testing.assert_array_equal(again.log_prob(theta, y), posterior.log_prob(theta, y))


def test_where_most_columns_matter_or_one_member_was_asked_for_every_member_sees_all() -> None:
    settings = FitSettings(**{**SETTINGS.__dict__, "train": TrainSettings(epochs=1)})
    posterior = sf.fit(made(1), n_simulations=300, seed=1, settings=settings, say=None)
    assert seen(posterior) == [[True] * 3] * 3
    alone = sf.fit(
        made(20),
        n_simulations=300,
        seed=1,
        settings=FitSettings(**{**settings.__dict__, "members": 1}),
        say=None,
    )
    assert seen(alone) == [[True] * 22]
    assert not [note for note in (*posterior.notes, *alone.notes) if note.kind == "screen"]


def test_columns_that_matter_unseen_by_the_screen_give_the_member_that_sees_all_its_weight() -> None:
    """y = a * signs of two others + noise: neither sign depends on a, alone or times one other column."""

    @sf.simulator(sf.Prior(a=norm(0, 1)))
    def hidden(theta: dict[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
        signs = rng.choice([-1.0, 1.0], (len(theta["a"]), 2))
        y = theta["a"] * signs.prod(axis=1) + 0.1 * rng.standard_normal(len(signs))
        return np.column_stack([y, signs])

    longer = replace(SETTINGS, train=TrainSettings(epochs=60, batch_size=64))  # a product of three takes time
    posterior = sf.fit(hidden, n_simulations=2000, seed=1, settings=longer, say=None)
    assert seen(posterior) == [[True, False, False], [True] * 3, [True, False, False]]
    assert posterior.estimator.mixture_weights[1] > 0.9
