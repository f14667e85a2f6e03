"""Networks of vectors."""

from __future__ import annotations

import torch

from sbi_flows.nets.vector import MaskedVector, VectorSummary
from sbi_flows.rng import stream, torch_scope


def test_the_masked_one_is_a_network_of_values_and_mask() -> None:
    with torch_scope(stream(1, "network")):
        masked, plain = MaskedVector(3, 4, 16), VectorSummary(6, 4, 16)
    plain.load_state_dict(masked.state_dict())
    y = torch.tensor([[1.0, torch.nan, -2.0]])
    assert torch.equal(masked(y), plain(torch.tensor([[1.0, 0.0, -2.0, 1.0, 0.0, 1.0]])))
