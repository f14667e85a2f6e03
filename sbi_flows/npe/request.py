"""What a fit is asked for, and the simulations from which its design is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import nn

from sbi_flows.nets.encoder import TrainedEncoder
from sbi_flows.notes import Say
from sbi_flows.npe.settings import FitSettings
from sbi_flows.problem.events import Events
from sbi_flows.problem.patterns import Observe
from sbi_flows.problem.summaries import Summaries
from sbi_flows.rng import stream
from sbi_flows.training.loop import Progress


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of a fit asked for.

    encoder: a network that was trained elsewhere and summarises y. own: a summary network of the user's own.
    events: what y is. observe: patterns of what is observed. declared: the summaries that the simulator
    declares, which join the input unless the settings say otherwise. checkpoint: a file to resume from.
    limit_seconds: what training one network may take, a shorter schedule then.
    say: takes each note as it is made. progress: called as progress(done, total, text).
    """

    settings: FitSettings = field(default_factory=FitSettings)
    seed: int = 0
    encoder: TrainedEncoder | None = None
    own: nn.Module | None = None
    events: Events | None = None
    observe: Observe | None = None
    declared: Summaries | None = None
    checkpoint: str | None = None
    limit_seconds: float | None = None
    say: Say | None = None
    progress: Progress | None = None

    @property
    def masked(self) -> bool:
        """Whether values may be missing."""
        return self.observe is not None or (self.events is not None and self.events.missing)

    @property
    def joining(self) -> Summaries | None:
        """The declared summaries, where they are to join."""
        return self.declared if self.settings.declared_summaries else None


@dataclass(frozen=True, eq=False)
class Sample:
    """Simulations from which a design is chosen: theta (n, d), y (n, *event) and their declared summaries t
    (n, k), None where none join. Each is computed once.
    """

    theta: Float[np.ndarray, "n d"]
    y: Shaped[np.ndarray, "n *event"]
    t: Float[np.ndarray, "n k"] | None

    @classmethod
    def of(cls, theta: NDArray[Any], y: NDArray[Any], request: Request) -> Sample:
        """With the summaries that the request lets join: of what is observed, where there are patterns."""
        if request.joining is None:
            return cls(theta, y, None)
        seen = (
            y if request.observe is None else request.observe(y, stream(request.seed, "observed summaries"))
        )
        return cls(theta, y, request.joining(seen))

    def __getitem__(self, rows: Any) -> Sample:
        """Some of the rows."""
        return Sample(self.theta[rows], self.y[rows], None if self.t is None else self.t[rows])

    def __iter__(self) -> Iterator[Any]:
        return iter((self.theta, self.y, self.t))

    def __len__(self) -> int:
        return len(self.theta)
