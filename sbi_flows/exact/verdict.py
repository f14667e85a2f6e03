"""How exact the draws are: the Monte Carlo error, and whether it can be relied on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sbi_flows.draws import ChainDiagnostics
from sbi_flows.notes import Note
from sbi_flows.verdict import Level, Verdict

K_HAT, RHAT = 0.7, 1.01
_GOOD_ESS, _POOR_ESS, _POOR_RHAT = 400, 100, 1.05


@dataclass(frozen=True)
class MonteCarlo:
    """ess: effective sample size of the weighted draws, of which there are `draws`. k_hat: of their weights.
    given: how many are taken from them. chains: what ran instead where k-hat is above 0.7.
    """

    ess: float
    k_hat: float
    draws: int
    given: int
    chains: ChainDiagnostics | None = None

    @property
    def origin(self) -> str:
        """The method."""
        return "exact, importance sampling" if self.chains is None else "exact, particle MCMC"

    @property
    def error(self) -> float:
        """Of a posterior mean, in posterior standard deviations."""
        ess = self.ess if self.chains is None else self.chains.ess
        return float(1 / np.sqrt(max(ess, 1.0)))

    @property
    def level(self) -> Level:
        """Never "trust" where k-hat or R-hat says that the error itself cannot be relied on."""
        if self.chains is None:
            good, poor, ess = self.k_hat <= K_HAT, self.k_hat <= K_HAT, self.ess
        else:
            good, poor = self.chains.rhat <= RHAT, self.chains.rhat <= _POOR_RHAT
            ess = self.chains.ess
        if good and ess >= _GOOD_ESS:
            return "trust"
        return "caution" if poor and ess >= _POOR_ESS else "do not trust"

    @property
    def note(self) -> Note:
        """Why."""
        if self.chains is None:
            values = {"ess": self.ess, "draws": self.draws, "k_hat": self.k_hat}
            if self.k_hat > K_HAT:
                return Note("not exact, k-hat", **values)
            kind = "exact, weights" if self.level == "trust" else "not exact, few draws"
            return Note(kind, **values, given=self.given, error=self.error)
        kind = "exact, chains" if self.level == "trust" else "not exact, chains"
        return Note(kind, rhat=self.chains.rhat, ess=self.chains.ess, k_hat=self.k_hat, error=self.error)

    @property
    def verdict(self) -> Verdict:
        """Level and reason."""
        return Verdict(self.level, f"{self.note}.")

    def facts(self) -> dict[str, Any]:
        """As numbers. ess, k_hat: of the weights; error: of a posterior mean, in posterior sd."""
        found = {"ess": self.ess, "k_hat": self.k_hat, "error": self.error, "exact": self.level == "trust"}
        if self.chains is not None:
            found |= {
                "rhat": self.chains.rhat,
                "bulk_ess": self.chains.bulk,
                "tail_ess": self.chains.tail,
                "ess": self.chains.ess,
            }
        return found
