"""Named streams of random numbers from one root seed.

One integer seed gives a whole run. Block `k` of a bank draws from `SeedSequence(seed, spawn_key=(k,))`. Every
other use has a name; name and index together give it its own stream, `SeedSequence(seed, spawn_key=(tag,
crc32(name), i))`. The tag separates the two families: a key of one or two words never equals one of three.
The global states of NumPy and torch are neither read nor left changed.
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
    """`seed` as a non-negative int. Raises `SettingsError`."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise SettingsError(f"seed must be a non-negative integer, got {seed!r}. Pass for example seed=1.")
    return int(seed)


def block_stream(seed: int, block: int, row: int | None = None) -> np.random.Generator:
    """The stream of simulation block `block`, or of one row of it if the simulator is not vectorised."""
    key = (block,) if row is None else (block, row)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """The stream with this name and index, of the run with this seed."""
    key = (_NAMED, zlib.crc32(name.encode()), index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@contextmanager
def torch_scope(rng: np.random.Generator) -> Iterator[None]:
    """Seed torch's global generator from `rng` inside the block; its previous state is restored after.

    For code that draws from torch without taking a generator: layer initialisation, `torch.distributions`,
    dropout. Threads take turns, because the process has one torch generator.
    """
    import torch

    with _torch_lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        yield
