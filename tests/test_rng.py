"""Streams of randomness: one seed gives them all, no two are alike, and global states stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from sbi_flows.errors import SettingsError
from sbi_flows.rng import block_stream, check_seed, stream, torch_scope


def words(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(rng.integers(2**64, size=2, dtype=np.uint64).tolist())


@pytest.mark.parametrize("seed", [0, 7, np.int64(7), np.uint8(7), 2**100])
def test_a_non_negative_integer_is_a_seed(seed: Any) -> None:
    assert check_seed(seed) == int(seed)
    assert type(check_seed(seed)) is int


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True, np.float64(1), [1]])
def test_anything_else_is_refused_with_the_value_named(seed: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        check_seed(seed)
    assert repr(seed) in str(caught.value)


def test_a_stream_is_a_function_of_seed_name_and_index() -> None:
    assert words(stream(3, "fit", 2)) == words(stream(3, "fit", 2))
    assert words(block_stream(3, 5)) == words(block_stream(3, 5))
    assert words(block_stream(3, 5, 1)) == words(block_stream(3, 5, 1))


def test_no_two_streams_of_a_run_or_of_its_neighbours_are_alike() -> None:
    seeds, indices = (0, 1, 2), range(40)
    streams = [block_stream(seed, k) for seed in seeds for k in indices]
    streams += [block_stream(seed, k, row) for seed in seeds for k in indices for row in range(5)]
    streams += [
        stream(seed, name, k) for seed in seeds for k in indices for name in ("fit", "sample", "split")
    ]
    drawn = [words(rng) for rng in streams]
    assert len(set(drawn)) == len(drawn)


def test_first_draws_across_blocks_are_uniform() -> None:
    """Kolmogorov-Smirnov on the first draw of 4,000 blocks and rows; false alarm rate 1e-4 each."""
    blocks = [block_stream(11, k).random() for k in range(4000)]
    rows = [block_stream(11, k // 20, k % 20).random() for k in range(4000)]
    assert kstest(blocks, "uniform").pvalue > 1e-4
    assert kstest(rows, "uniform").pvalue > 1e-4


def test_torch_draws_inside_the_scope_are_a_function_of_the_generator() -> None:
    drawn = []
    for _ in range(2):
        with torch_scope(np.random.default_rng(5)):
            drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def test_two_scopes_of_one_generator_differ() -> None:
    rng = np.random.default_rng(5)
    with torch_scope(rng):
        first = torch.rand(4)
    with torch_scope(rng):
        second = torch.rand(4)
    assert not torch.equal(first, second)


def test_the_callers_torch_state_is_back_after_the_scope() -> None:
    before = torch.get_rng_state()
    with torch_scope(np.random.default_rng(0)):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_callers_torch_state_is_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), torch_scope(np.random.default_rng(0)):
        torch.rand(3).reshape(2, 2)
    assert torch.equal(torch.get_rng_state(), before)
