"""Named flows whose draws, with their densities, are cheap: what q(z | x) needs where the objective is an
average over draws of q.

    diagonal          value = m(c) + s(c) noise
    full_rank         value = m(c) + diag(s(c)) L(c) noise, L lower triangular: a Cholesky factor
    planar            planar steps, two for each of `steps`; the density of values that are not its own draws
    is not known
    iaf               affine autoregressive layers turned round: a draw costs one pass a layer, the density of
    a given value d of them coupling, spline_coupling      as in `flows.recipes`: both directions cost one
    pass

All end in the conditional affine layer of `ConditionalFlow`. With one component nothing can be coupled: iaf,
coupling and spline_coupling are then one spline, and full_rank is diagonal.
"""

from __future__ import annotations

from typing import Literal, get_args

from sbi_flows.errors import SettingsError
from sbi_flows.flows.composition import Inverse
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.layers import Layer, Permutation, spline_autoregressive
from sbi_flows.flows.planar import Planar
from sbi_flows.flows.recipes import RECIPES, check_sizes
from sbi_flows.flows.triangular import Triangular

SamplingKind = Literal["diagonal", "full_rank", "planar", "iaf", "coupling", "spline_coupling"]
GAUSSIAN_KINDS = ("diagonal", "full_rank")


def build_sampling_flow(
    kind: str, d: int, context: int, *, hidden: int = 64, steps: int = 4
) -> ConditionalFlow:
    """The flow called `kind` over R^d given `context` numbers, initialised from torch's generator in scope.

    Raises `SettingsError` for an unknown kind or sizes out of range.
    """
    if not isinstance(kind, str) or kind not in get_args(SamplingKind):
        raise SettingsError(f"encoder must be one of {', '.join(get_args(SamplingKind))}, got {kind!r}.")
    d, context, hidden, steps = check_sizes(d, context, hidden, steps)
    return ConditionalFlow(d, context, _layers(kind, d, context, hidden, steps))


def _layers(kind: str, d: int, context: int, hidden: int, steps: int) -> list[Layer]:
    if kind == "diagonal" or (kind == "full_rank" and d == 1):
        return []
    if kind == "full_rank":
        return [Triangular(d, context)]
    if kind == "planar":
        return [Planar(d, context) for _ in range(2 * steps)]
    if d == 1:
        return [Inverse(spline_autoregressive(1, context, hidden))]
    if kind == "iaf":
        return [
            layer if isinstance(layer, Permutation) else Inverse(layer)
            for layer in RECIPES["maf"](d, context, hidden, steps)
        ]
    return RECIPES[kind](d, context, hidden, steps)
