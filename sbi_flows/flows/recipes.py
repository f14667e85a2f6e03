"""Named flows for densities: each recipe is a list of layers.

    maf               affine autoregressive layers; exact for Gaussians, however correlated
    nsf               one affine autoregressive layer, then autoregressive rational-quadratic splines
    nsf_natural       nsf on nearly the natural scale of bounded parameters (`flows.natural`), where `sf.fit`
                      finds the posterior narrow; elsewhere, and for densities, it is nsf
    coupling          affine coupling layers
    spline_coupling   one pair of affine coupling layers, then rational-quadratic spline couplings
    matching          a velocity field, trained by flow matching (`flows.matching`)

Autoregressive recipes are cheap in density; in coupling recipes, density and sampling both cost one pass.
With one component there is nothing to couple, and an affine map would leave q Gaussian: every recipe but
matching is then one spline layer. Autoregressive layers alternate with fixed permutations (reversal, which
suffices for d <= 3; else drawn from torch's generator in scope).

`ConditionalFlow` puts a conditional affine layer before the layers of any recipe but matching.

A new recipe is a function here, its entry in `RECIPES` and its name in `FlowKind`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from sbi_flows.arrays import integer, renamed
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
from sbi_flows.flows.matching import FlowMatching, Transport
from sbi_flows.flows.natural import NaturalScale

FlowKind = Literal["maf", "nsf", "nsf_natural", "coupling", "spline_coupling", "matching"]
Recipe = Callable[[int, int, int, int], list[Layer]]  # of d, context, width, layers


def _maf(d: int, context: int, width: int, layers: int) -> list[Layer]:
    return _permuted(d, [affine_autoregressive(d, context, width) for _ in range(layers)])


def _nsf(d: int, context: int, width: int, layers: int) -> list[Layer]:
    splines = [spline_autoregressive(d, context, width) for _ in range(layers - 1)]
    return _permuted(d, [affine_autoregressive(d, context, width), *splines])


def _nsf_natural(d: int, context: int, width: int, layers: int) -> list[Layer]:
    return [NaturalScale(d), *_nsf(d, context, width, layers)]


def _coupling(d: int, context: int, width: int, layers: int) -> list[Layer]:
    return [affine_coupling(d, context, width, flip=bool(i % 2)) for i in range(2 * layers)]


def _spline_coupling(d: int, context: int, width: int, layers: int) -> list[Layer]:
    affine: list[Layer] = [affine_coupling(d, context, width, flip=bool(i)) for i in range(2)]
    return affine + [spline_coupling(d, context, width, flip=bool(i % 2)) for i in range(2 * (layers - 1))]


def _matching(d: int, context: int, width: int, layers: int) -> list[Layer]:
    return [Transport(d, context, width, blocks=layers // 2)]


RECIPES: dict[str, Recipe] = {
    "maf": _maf,
    "nsf": _nsf,
    "nsf_natural": _nsf_natural,
    "coupling": _coupling,
    "spline_coupling": _spline_coupling,
    "matching": _matching,
}


@renamed(hidden="width", steps="layers")
def build_flow(kind: str, d: int, context: int, *, width: int = 64, layers: int = 4) -> ConditionalFlow:
    """A flow over R^d given `context` numbers, initialised from torch's generator in scope.

    kind: a key of `RECIPES`.
    width: hidden units of the network in each layer.
    layers: how many, at least 2; for couplings, how many pairs; for matching, twice the residual blocks.
    Raises `SettingsError` for an unknown kind or sizes out of range.
    """
    check_kind("flow", kind, RECIPES)
    sizes = check_sizes(d, context, width, layers)
    made = FlowMatching if kind == "matching" else ConditionalFlow
    return made(*sizes[:2], density_layers(kind, *sizes))


def density_layers(kind: str, d: int, context: int, width: int, layers: int) -> list[Layer]:
    """The layers of a recipe; for one component, one spline in place of layers that couple components."""
    if d > 1 or kind == "matching":
        return RECIPES[kind](d, context, width, layers)
    scale: list[Layer] = [NaturalScale(1)] if kind == "nsf_natural" else []
    return [*scale, spline_autoregressive(1, context, width)]


def check_kind(name: str, kind: object, recipes: dict[str, Recipe]) -> None:
    """Raise `SettingsError` where the option `name` is not the name of a recipe."""
    if not isinstance(kind, str) or kind not in recipes:
        raise SettingsError(f"{name} must be one of {', '.join(recipes)}, got {kind!r}.")


def check_sizes(d: object, context: object, width: object, layers: object) -> tuple[int, int, int, int]:
    """The sizes of a flow as ints. Raises `SettingsError`."""
    return (
        integer("d", d),
        integer("context", context, 0),
        integer("width", width),
        integer("layers", layers, 2),
    )


def _permuted(d: int, layers: list[Layer]) -> list[Layer]:
    """The layers with a permutation before each but the first."""
    permuted = layers[:1]
    for layer in layers[1:]:
        order = torch.arange(d - 1, -1, -1) if d <= 3 else torch.randperm(d)
        permuted += [Permutation(order), layer]
    return permuted
