"""A density fitted to samples: x -> log p(x), draws, and the map to noise and back.

    u = (x - m) / c,   noise = T(u),   noise ~ N(0, I)
    log p(x) = log N(T(u); 0, I) + log |det dT/du| - sum_j log c_j

m and c are the mean and standard deviation of each column. T is a flow of `flows.recipes`, trained by maximum
likelihood in float32 and evaluated in float64. Papamakarios et al. (2021), 1912.02762.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sbi_flows.arrays import F, integer, numbers, renamed, spread
from sbi_flows.errors import ObservationError, SettingsError, ShapeError, TooFewSimulationsError
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.recipes import build_flow
from sbi_flows.machine import torch_defaults, torch_threads
from sbi_flows.rng import check_seed, stream, torch_scope
from sbi_flows.training.history import History
from sbi_flows.training.loop import TrainOptions, train
from sbi_flows.training.rows import LEAST_ROWS, TensorRows
from sbi_flows.training.settings import TrainSettings

_ROWS_SEEN = 1_000_000
_MOST_EPOCHS = 200
_ROWS_AT_ONCE = 20_000


class Density:
    """A density over R^d. It takes rows (n, d), for d = 1 also (n,), and gives float64.

    Raises `ShapeError` or `ObservationError` for anything else.
    """

    def __init__(self, flow: ConditionalFlow, mean: F, sd: F, history: History) -> None:
        self.flow, self.mean, self.sd, self.history = flow.double().eval(), mean, sd, history
        self.d = len(mean)

    def log_prob(self, x: ArrayLike) -> F:
        """log p(x) of each row, (n,), in nats."""
        return self._by_parts(self.flow.log_prob, self._standardised(x))[0] - float(np.log(self.sd).sum())

    def sample(self, n: int, *, seed: int = 0) -> F:
        """n draws (n, d)."""
        return self.to_value(stream(check_seed(seed), "density").standard_normal((integer("n", n), self.d)))

    def to_noise(self, x: ArrayLike) -> F:
        """T of each row, (n, d): standard normal where x has this density."""
        return self._by_parts(self.flow.to_noise, self._standardised(x))[0]

    def to_value(self, noise: ArrayLike) -> F:
        """The row that has this noise, (n, d): the inverse of `to_noise`."""
        return self._by_parts(self.flow.to_value, _rows(noise, self.d, "noise"))[0] * self.sd + self.mean

    def log_det(self, x: ArrayLike) -> F:
        """log |det d noise / d x| at each row, (n,)."""
        return self._by_parts(self.flow.to_noise, self._standardised(x))[1] - float(np.log(self.sd).sum())

    def _standardised(self, x: ArrayLike) -> F:
        return (_rows(x, self.d, "x") - self.mean) / self.sd

    @torch_defaults()
    @torch_threads(1)
    def _by_parts(self, of: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, ...]], rows: F) -> list[F]:
        context, parts = torch.zeros(1, 1, dtype=torch.float64), []
        for i in range(0, len(rows), _ROWS_AT_ONCE):
            with torch.no_grad():
                found = of(torch.from_numpy(rows[i : i + _ROWS_AT_ONCE]), context)
            parts.append(found if isinstance(found, tuple) else (found,))
        return [torch.cat(column).numpy() for column in zip(*parts, strict=True)]


@renamed(hidden="width", steps="layers")
@torch_defaults()
def fit_density(
    x: ArrayLike,
    kind: str = "nsf",
    *,
    seed: int = 0,
    width: int = 64,
    layers: int = 4,
    settings: TrainSettings | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Density:
    """Fit a density to rows x (n, d), or (n,) for d = 1. The same seed gives the same density.

    kind: "maf", "nsf", "coupling", "spline_coupling" or "matching".
    width, layers: the width of its layers and their number.
    settings: of training. A tenth of the rows is held out and decides which weights are kept.
    progress: progress(step, steps, text) is called now and then.
    Raises `ShapeError`, `ObservationError` (not finite, a column that is constant, or a spread beyond
    float64), `SettingsError`, `TooFewSimulationsError` below 50 rows.
    """
    if not (settings is None or isinstance(settings, TrainSettings)):
        raise SettingsError(f"settings must be sf.TrainSettings(...), got {settings!r}.")
    rows = _rows_to_fit(x)
    mean, sd, seed = rows.mean(axis=0), spread(rows), check_seed(seed)
    epochs = max(1, min(round(_ROWS_SEEN / len(rows)), _MOST_EPOCHS))
    settings = settings or TrainSettings(epochs=epochs, weight_decay=1e-4)
    with torch_scope(stream(seed, "weights")):
        flow = build_flow(kind, rows.shape[1], 1, width=width, layers=layers)
    standard = torch.from_numpy(((rows - mean) / sd).astype(np.float32))
    paths = ("layers.0._linear.", "layers.0.net.gaussian.")
    with torch_threads(1):
        training = TensorRows((standard,), settings, seed)
        history = train(flow, _loss, training, TrainOptions(undecayed=paths, progress=progress))
        flow.settle(training.valid[0], torch.zeros(1, 1))
    return Density(flow, mean, sd, history)


def _rows_to_fit(x: ArrayLike) -> F:
    """x as rows that have a density."""
    values = numbers(x, "x", "rows of shape (n, d)")
    rows = _rows(values, values.shape[1] if values.ndim == 2 and values.shape[1] > 0 else 1, "x")
    if len(rows) < LEAST_ROWS:
        raise TooFewSimulationsError(
            f"{len(rows)} rows are too few for a density; it needs at least {LEAST_ROWS}, usually thousands."
        )
    sd = spread(rows)
    if not (np.isfinite(sd) & (sd > 0)).all():
        column = int(np.argmax(~np.isfinite(sd) | (sd == 0)))
        constant, wide = "is constant. Leave it out", "spreads too far for float64. Change its unit"
        raise ObservationError(f"column {column} of x {constant if sd[column] == 0 else wide}.")
    return rows


def _loss(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    (u,) = batch
    return cast(ConditionalFlow, module).loss(u, u.new_zeros(1, 1))


def _rows(given: ArrayLike, d: int, name: str) -> F:
    values = numbers(given, name, f"rows of shape (n, {d})")
    rows = values[:, None] if values.ndim == 1 and d == 1 else values
    if rows.ndim != 2 or rows.shape[1] != d or not len(rows):
        more = "" if rows.size else " Pass at least one."
        raise ShapeError(f"{name} must be rows of shape (n, {d}), got {values.shape}.{more}")
    if not np.isfinite(rows).all():
        first = int(np.argwhere(~np.isfinite(rows))[0][0])
        raise ObservationError(f"{name} must be finite; row {first} is not.")
    return rows
