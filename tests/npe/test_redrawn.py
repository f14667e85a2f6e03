"""Rows of which another part is observed each time: redrawn by epoch, the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, uniform

import sbi_flows as sf
from sbi_flows.notes import Notes
from sbi_flows.npe.design import Request, Sample, begin_design
from sbi_flows.npe.redrawn import RedrawnRows, as_seen
from sbi_flows.problem.events import Events
from sbi_flows.problem.patterns import as_observe
from sbi_flows.training.rows import TensorRows

PRIOR = sf.Prior(a=norm(0, 1), b=uniform(0, 1))
SETTINGS = sf.FitSettings(
    width=16,
    layers=2,
    summary_features=8,
    members=1,
    flow="maf",
    train=sf.TrainSettings(epochs=4, batch_size=32),
)


def rows_of(observe: Any, seed: int = 3) -> Any:
    events = Events.plain((5,), missing=True)
    rng = np.random.default_rng(0)
    theta, y = PRIOR.sample(200, rng), rng.standard_normal((200, 5))
    request = Request(settings=SETTINGS, seed=seed, events=events, observe=as_observe(observe, events))
    design = begin_design(PRIOR, Sample.of(theta, y, request), request, Notes(None), timed=False)
    tensors = tuple(torch.from_numpy(part) for part in design.convert(theta, y))
    return as_seen(TensorRows(tensors, design.training, seed), design)


def epoch(rows: Any, k: int) -> dict[int, np.ndarray]:
    """What is seen of each row in epoch k."""
    return {
        int(number): np.array(seen)
        for numbers, (_, y) in rows.batches(k)
        for number, seen in zip(numbers, y.numpy(), strict=True)
    }


def test_another_part_is_seen_in_each_epoch_and_the_values_stay() -> None:
    rows = rows_of(sf.gaps((0.2, 0.6)))
    assert isinstance(rows, RedrawnRows)
    first, second = epoch(rows, 0), epoch(rows, 1)
    shared = sorted(first.keys() & second.keys())
    assert len(shared) > 100
    one, other = (np.stack([seen[k] for k in shared]) for seen in (first, second))
    assert not np.array_equal(np.isnan(one), np.isnan(other))
    both = ~np.isnan(one) & ~np.isnan(other)
    np.testing.assert_array_equal(one[both], other[both])
    assert 0.2 < np.isnan(one).mean() < 0.6


def test_an_epoch_is_the_same_whenever_it_is_asked_for() -> None:
    one, other = rows_of(sf.gaps(0.5)), rows_of(sf.gaps(0.5))
    epoch(one, 0)
    for k, seen in epoch(one, 2).items():
        np.testing.assert_array_equal(seen, epoch(other, 2)[k])


def test_held_out_rows_are_drawn_once() -> None:
    rows = rows_of(sf.gaps(0.5))
    before = rows.valid[1].clone()
    epoch(rows, 0)
    np.testing.assert_array_equal(rows.valid[1].numpy(), before.numpy())
    assert np.isnan(before.numpy()).any()
    assert len(before) == len(rows.valid_rows)


def test_the_fingerprint_knows_the_patterns() -> None:
    prints = {
        rows_of(observe).fingerprint()
        for observe in (sf.gaps(0.5), sf.gaps(0.4), sf.lengths(2, 5), lambda y, rng: y)
    }
    assert len(prints) == 4
    assert rows_of(sf.gaps(0.5)).fingerprint() == rows_of(sf.gaps(0.5)).fingerprint()


def test_without_patterns_the_rows_are_as_they_are() -> None:
    assert isinstance(rows_of(None), TensorRows)


def test_a_fit_that_was_stopped_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    @sf.simulator(PRIOR, event_shape=(5,))
    def model(theta: Any, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(theta["a"][:, None] + rng.standard_normal((len(theta["a"]), 5)))

    class StopError(Exception):
        pass

    def stop(done: int, total: int, text: str) -> None:
        if done > 2 * total / 3:
            raise StopError

    def fit(**options: Any) -> sf.Posterior:
        return sf.fit(model, observe=sf.gaps(0.3), n_simulations=400, settings=SETTINGS, say=None, **options)

    path = tmp_path / "fit.checkpoint"
    with pytest.raises(StopError):
        fit(checkpoint=path, progress=stop)
    fit(checkpoint=path).save(tmp_path / "one.safetensors")
    fit().save(tmp_path / "other.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
