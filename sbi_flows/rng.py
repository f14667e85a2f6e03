"""Named streams of randomness from one root seed.

One integer seed gives a whole run. Block `k` of a simulation campaign draws from `SeedSequence(seed,
spawn_key=(k,))`; every other use has a name, and a name and an index give a stream of their own
(`SeedSequence(seed, spawn_key=(tag, crc32(name), i))`).
The tag keeps the two families apart: a spawn key of one word can never equal a key of three. NumPy and torch
global states are neither read nor left changed.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sbi_flows.errors import SettingsError

_NAMED = 0x5B1F
_torch_lock = threading.RLock()


def check_seed(seed: object) -> int:
    """Return `seed` as a non-negative int, or raise `SettingsError`."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise SettingsError(f"seed must be a non-negative integer, got {seed!r}. Pass for example seed=1.")
    return int(seed)


def block_stream(seed: int, block: int, row: int | None = None) -> np.random.Generator:
    """The stream of simulation block `block`, or of one row of it for simulators that run one draw at a
    time.
    """
    key = (block,) if row is None else (block, row)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """The stream called `name`, number `index`, of the run that `seed` starts."""
    key = (_NAMED, zlib.crc32(name.encode()), index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@contextmanager
def torch_scope(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's global generator from `rng` inside the block; the caller's state is back afterwards.

    For code that draws from torch without taking a generator: layer initialisation, `torch.distributions`,
    dropout. Threads take turns, because torch's generator is one for the process.
    """
    import torch

    with _torch_lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield
