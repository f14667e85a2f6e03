"""What `fit` is trained on, and for which gaps and lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sbi_flows as sf
from sbi_flows.cli.inputs import check_both, load_bank, load_pairs, load_prior
from sbi_flows.cli.observed_files import NamedFile, observation
from sbi_flows.cli.reading import Reading
from sbi_flows.errors import SettingsError
from sbi_flows.problem.patterns import Gaps, Lengths


@dataclass(frozen=True)
class Source:
    """What to train on: at most one of n, minutes, a bank, and the files of pairs made elsewhere. Raises
    `SettingsError`.
    """

    n: int | None
    minutes: float | None
    bank: Path | None
    theta: Path | None
    data: Path | None
    prior: str | None
    decimal: str
    index: tuple[str, ...]
    gaps: tuple[float, float] | None
    lengths: tuple[int, int] | None
    like: tuple[NamedFile, ...]

    def __post_init__(self) -> None:
        check_both(self.theta, self.data)
        if sum(given is not None for given in (self.n, self.minutes, self.bank, self.theta)) > 1:
            raise SettingsError(
                "give one of -n, --minutes and --simulations, or --theta and --data, not several."
            )
        if self.theta is None and self.prior is not None:
            raise SettingsError("--prior is for pairs from --theta and --data.")
        if self.theta is None and not self.like and (self.index or self.decimal != "."):
            raise SettingsError(
                "--decimal and --index are for pairs from --theta and --data, and for --like."
            )
        if self.like and (self.gaps is not None or self.lengths is not None):
            raise SettingsError(
                "give --like, for the gaps and lengths of these observations, or --gaps and --lengths, for a "
                "range; not both."
            )

    def simulations(self, simulator: sf.Simulator | None) -> sf.Simulations | None:
        """Those that are there already."""
        if self.bank is not None:
            return load_bank(self.bank, None if simulator is None else simulator.prior)
        if self.theta is None or self.data is None:
            if simulator is None:
                raise SettingsError(
                    "fit needs a SIMULATOR, a bank (--simulations), or pairs made elsewhere: --theta "
                    "theta.csv --data data.csv --prior prior.py:prior."
                )
            return None
        if self.prior is None and simulator is None:
            raise SettingsError(
                "pairs from --theta and --data need the prior that theta was drawn from: --prior "
                "path/to/file.py:prior, where prior = sf.Prior(...)."
            )
        prior = simulator.prior if simulator and self.prior is None else load_prior(self.prior or "")
        return load_pairs(prior, self.theta, self.data, Reading(self.decimal, self.index))

    @property
    def observe(self) -> list[Gaps | Lengths] | None:
        """The patterns that --gaps and --lengths ask for. Raises `SettingsError`."""
        found: list[Gaps | Lengths] = []
        if self.lengths is not None:
            found.append(sf.lengths(*self.lengths))
        if self.gaps is not None:
            found.append(sf.gaps(self.gaps))
        return found or None

    @property
    def like_paths(self) -> tuple[Path, ...]:
        """The files of --like."""
        return tuple(file.path for file in self.like)

    def alike(self, simulator: sf.Simulator | None, simulations: sf.Simulations | None) -> Any:
        """The observations of --like; None without it."""
        if not self.like:
            return None
        known = simulator if simulator is not None else simulations
        if known is None:
            raise SettingsError("--like needs a simulator or simulations, to know what the data are.")
        return observation(self.like, known.events, Reading(self.decimal, self.index))
