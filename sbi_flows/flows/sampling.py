"""Named flows whose draws, with their densities, are cheap: what q(z | x) needs where the objective is an
average over draws of q.

    diagonal          value = m(c) + s(c) noise
    full_rank         value = m(c) + diag(s(c)) L(c) noise, L lower triangular: a Cholesky factor
    planar            two planar steps per layer; only the density of its own draws is known
    iaf               affine autoregressive layers turned round: a draw costs one pass per layer, the density
                      of a given value d of them
    coupling, spline_coupling      as in `flows.recipes`: both directions cost one pass

All end in the conditional affine layer of `ConditionalFlow`. With one component there is nothing to couple:
iaf, coupling and spline_coupling are then one spline, and full_rank is diagonal.

A new recipe is a function here, its entry in `SAMPLING_RECIPES` and its name in `SamplingKind`.
"""

from __future__ import annotations

from typing import Literal

from sbi_flows.arrays import renamed
from sbi_flows.flows.composition import Inverse
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.layers import Layer
from sbi_flows.flows.planar import Planar
from sbi_flows.flows.recipes import Recipe, check_kind, check_sizes, density_layers
from sbi_flows.flows.triangular import Triangular

SamplingKind = Literal["diagonal", "full_rank", "planar", "iaf", "coupling", "spline_coupling"]
GAUSSIAN_KINDS = ("diagonal", "full_rank")


def _diagonal(d: int, context: int, width: int, layers: int) -> list[Layer]:
    return []


def _full_rank(d: int, context: int, width: int, layers: int) -> list[Layer]:
    return [] if d == 1 else [Triangular(d, context)]


def _planar(d: int, context: int, width: int, layers: int) -> list[Layer]:
    return [Planar(d, context) for _ in range(2 * layers)]


def _cheap_to_draw(kind: str) -> Recipe:
    """The recipe `kind` for densities, with the layers turned round whose draws are not cheap."""

    def recipe(d: int, context: int, width: int, layers: int) -> list[Layer]:
        as_they_are = density_layers(kind, d, context, width, layers)
        return [layer if "sample" in layer.cheap else Inverse(layer) for layer in as_they_are]

    return recipe


SAMPLING_RECIPES: dict[str, Recipe] = {
    "diagonal": _diagonal,
    "full_rank": _full_rank,
    "planar": _planar,
    "iaf": _cheap_to_draw("maf"),
    "coupling": _cheap_to_draw("coupling"),
    "spline_coupling": _cheap_to_draw("spline_coupling"),
}


@renamed(hidden="width", steps="layers")
def build_sampling_flow(
    kind: str, d: int, context: int, *, width: int = 64, layers: int = 4
) -> ConditionalFlow:
    """A flow over R^d given `context` numbers, initialised from torch's generator in scope.

    kind: a key of `SAMPLING_RECIPES`. width, layers: as for `build_flow`, where the kind has them.
    Raises `SettingsError` for an unknown kind or sizes out of range.
    """
    check_kind("encoder", kind, SAMPLING_RECIPES)
    sizes = check_sizes(d, context, width, layers)
    return ConditionalFlow(*sizes[:2], SAMPLING_RECIPES[kind](*sizes))
