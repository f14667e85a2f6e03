"""The knobs of a campaign that are rarely turned."""

from __future__ import annotations

from dataclasses import dataclass

from sbi_flows.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class SimulateSettings:
    """How `sf.simulate` runs.

    block_size: rows a block; a block is what is handed to a worker and put on disk whole. None: 1,000, or less where these would take more
        than 64 MB; for a simulator that runs one draw at a time 20, or 1 or 1,000 where that takes more than a second or less than 5 ms; or
        what the bank has. It decides the random numbers of a vectorised simulator, and not those of one that runs one draw at a time.
    isolate: call the simulator in a child process, which contains crashes. None: if there is a time limit, or a worker has been lost.
    warn_failures: the share of failed rows above which a `SimulationWarning` is given.
    tries: how often a call that kills its process is tried before its row is marked died.
    """

    block_size: int | None = None
    isolate: bool | None = None
    warn_failures: float = 0.05
    tries: int = 3

    def __post_init__(self) -> None:
        for name in ("block_size", "tries"):
            value = getattr(self, name)
            if not (name == "block_size" and value is None) and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise SettingsError(f"{name} must be a positive integer, got {value!r}.")
        if self.isolate not in (None, True, False):
            raise SettingsError(f"isolate must be True, False or None, got {self.isolate!r}.")
        if not 0 <= self.warn_failures <= 1:
            raise SettingsError(f"warn_failures is a share in [0, 1], got {self.warn_failures!r}.")
