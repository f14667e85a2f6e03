"""Sums with decay, and averages of the past, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sbi_flows.nets.memory import Memory, decayed_sum


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_the_sum_with_decay_is_the_recursion(length: int) -> None:
    x = np.random.default_rng(1).standard_normal((3, 1, length))
    decay = np.array([0.01, 0.5, 0.999])
    expected, state = np.empty((3, 3, length)), np.zeros((3, 3))
    for t in range(length):
        state = decay * state + x[:, :, t]
        expected[:, :, t] = state
    found = decayed_sum(torch.from_numpy(x), torch.from_numpy(decay))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_the_averages_are_those_of_what_was_observed_before() -> None:
    rng = np.random.default_rng(2)
    value, mask = rng.standard_normal((2, 3, 20)), (rng.random((2, 3, 20)) < 0.6).astype(float)
    memory = Memory().double()
    average, known = (part.detach().numpy() for part in memory(*map(torch.from_numpy, (value, mask))))
    assert (average[..., 0] == 0).all()
    assert (known[..., 0] == 0).all()
    for k, a in enumerate(memory.logit.detach().sigmoid().tolist()):
        for t in range(1, 20):
            weight = a ** (t - 1 - np.arange(t)) * mask[..., :t]
            expected = (weight * value[..., :t]).sum(axis=-1) / (1e-3 + weight.sum(axis=-1))
            np.testing.assert_allclose(average[:, :, k, t], expected, atol=1e-12)
            np.testing.assert_allclose(known[:, :, k, t], np.log1p(weight.sum(axis=-1)), atol=1e-12)


def test_the_decays_start_at_half_a_step_to_forty() -> None:
    steps = -1 / Memory().logit.detach().sigmoid().log()
    np.testing.assert_allclose(steps.numpy(), [0.5, 1.5, 4, 12, 40], rtol=1e-5)
