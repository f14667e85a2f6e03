"""Named flows: each recipe is a list of layers.

    maf               affine autoregressive layers; exact for Gaussians, however correlated
    nsf               one affine autoregressive layer, then autoregressive rational-quadratic splines: any
    shape coupling          affine coupling layers; density and sampling both cost one pass
    spline_coupling   rational-quadratic spline coupling layers; likewise

With one component no layer can couple anything, and an affine map would leave q Gaussian: every recipe is
then one spline layer. Layers alternate with fixed permutations (reversal, which suffices for d <= 3; else
drawn from the generator in scope).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from sbi_flows.errors import SettingsError
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.layers import (
    Layer,
    Permutation,
    affine_autoregressive,
    affine_coupling,
    spline_autoregressive,
    spline_coupling,
)

FlowKind = Literal["maf", "nsf", "coupling", "spline_coupling"]


def _maf(d: int, context: int, hidden: int, steps: int) -> list[Layer]:
    return _mixed(d, [affine_autoregressive(d, context, hidden) for _ in range(steps)])


def _nsf(d: int, context: int, hidden: int, steps: int) -> list[Layer]:
    splines = [spline_autoregressive(d, context, hidden) for _ in range(steps - 1)]
    return _mixed(d, [affine_autoregressive(d, context, hidden), *splines])


def _coupling(d: int, context: int, hidden: int, steps: int) -> list[Layer]:
    return [affine_coupling(d, context, hidden, flip=bool(i % 2)) for i in range(2 * steps)]


def _spline_coupling(d: int, context: int, hidden: int, steps: int) -> list[Layer]:
    affine: list[Layer] = [affine_coupling(d, context, hidden, flip=bool(i)) for i in range(2)]
    return affine + [spline_coupling(d, context, hidden, flip=bool(i % 2)) for i in range(2 * (steps - 1))]


RECIPES: dict[str, Callable[[int, int, int, int], list[Layer]]] = {
    "maf": _maf,
    "nsf": _nsf,
    "coupling": _coupling,
    "spline_coupling": _spline_coupling,
}


def build_flow(kind: str, d: int, context: int, *, hidden: int = 64, steps: int = 4) -> ConditionalFlow:
    """The flow called `kind` over R^d given a context of `context` numbers, with `steps` layers (pairs of
    them for couplings).

    Initialised from torch's generator in scope. Raises `SettingsError` for an unknown kind or sizes out of
    range.
    """
    if not isinstance(kind, str) or kind not in RECIPES:
        raise SettingsError(f"flow must be one of {', '.join(RECIPES)}, got {kind!r}.")
    d, context, hidden, steps = check_sizes(d, context, hidden, steps)
    layers = (
        [spline_autoregressive(1, context, hidden)] if d == 1 else RECIPES[kind](d, context, hidden, steps)
    )
    return ConditionalFlow(d, context, layers)


def check_sizes(d: object, context: object, hidden: object, steps: object) -> tuple[int, int, int, int]:
    """The sizes of a flow as ints. Raises `SettingsError`."""
    found = []
    for value, least in ((d, 1), (context, 0), (hidden, 1), (steps, 2)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise SettingsError(
                "a flow needs d >= 1, context >= 0, hidden >= 1 and steps >= 2, all of them integers, got "
                f"d={d!r}, context={context!r}, hidden={hidden!r}, steps={steps!r}."
            )
        found.append(int(value))
    return found[0], found[1], found[2], found[3]


def _mixed(d: int, layers: list[Layer]) -> list[Layer]:
    mixed = layers[:1]
    for layer in layers[1:]:
        order = torch.arange(d - 1, -1, -1) if d <= 3 else torch.randperm(d)
        mixed += [Permutation(order), layer]
    return mixed
