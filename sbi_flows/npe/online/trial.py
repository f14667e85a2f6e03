"""How long a training step takes, tried on a copy of the module: with one torch thread or several, alone or
with something beside it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sbi_flows.machine import torch_threads
from sbi_flows.rng import torch_scope
from sbi_flows.training.loop import Loss
from sbi_flows.training.settings import TrainSettings

_WARM_UP, _LEAST_STEPS = 2, 3


def step_seconds(
    module: nn.Module,
    loss: Loss,
    batch: tuple[Tensor, ...],
    settings: TrainSettings,
    *,
    threads: int,
    seconds: float,
    between: Callable[[], object] = lambda: None,
) -> float:
    """The mean time of a step with so many torch threads, over `seconds` or at least 3 steps. `between` is
    called before each of them.
    """
    trained = copy.deepcopy(module).train()
    parameters = [p for p in trained.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, fused=True)

    def step() -> None:
        between()
        optimiser.zero_grad(set_to_none=True)
        loss(trained, batch).mean().backward()
        float(nn.utils.clip_grad_norm_(parameters, settings.clip))
        optimiser.step()

    with torch_threads(threads), torch_scope(np.random.default_rng(0)):
        for _ in range(_WARM_UP):
            step()
        steps, began = 0, time.perf_counter()
        while steps < _LEAST_STEPS or time.perf_counter() - began < seconds:
            step()
            steps += 1
        return (time.perf_counter() - began) / steps
