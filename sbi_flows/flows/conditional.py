"""The conditional flow q(value | context): one class for q(theta | y) and for q(z | x).

    noise = T(value; c),   noise ~ N(0, I)
    log q(value | c) = log N(T(value; c); 0, I) + log |det dT/dvalue|

T is a conditional affine layer followed by the layers of a recipe (`flows.recipes`), and preceded by the
recipe's change of scale where it begins with one (`flows.natural`). Papamakarios et al.
(2021), 1912.02762. Directions are called `to_noise` and `to_value`; `cheap` names those that cost one pass
per layer, "density" and "sample".

Rows may have any number of axes. A context may have length 1 along an axis, or lack the axis, where it does
not vary: n values for each of m contexts are values (m, n, d) and contexts (m, 1, k), and what the networks
make of a context is computed m times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.errors import ShapeError
from sbi_flows.flows.layers import (
    ConditionalAffine,
    Layer,
    cheap_in_all,
    check_layers,
    run_to_noise,
    run_to_value,
)
from sbi_flows.flows.natural import NaturalScale

LOG_2PI = math.log(2 * math.pi)


def log_standard_normal(z: Tensor, dim: int = -1) -> Tensor:
    """log N(z; 0, I) in nats, the components of z along one dimension."""
    return -0.5 * (z.square().sum(dim=dim) + z.shape[dim] * LOG_2PI)


class ConditionalFlow(nn.Module):
    """q(value | context) over R^d, given `context` numbers; with none, contexts are (..., 0).

    All methods raise `ShapeError` where contexts do not broadcast to the rows of the values or noise.
    """

    def __init__(self, d: int, context: int, layers: Sequence[Layer]) -> None:
        check_layers(layers, "ConditionalFlow")
        super().__init__()
        self.d = d
        self.context = context
        scale = [layer for layer in layers[:1] if isinstance(layer, NaturalScale)]
        self.layers = nn.ModuleList([*scale, ConditionalAffine(d, context), *layers[len(scale) :]])
        self.cheap = cheap_in_all(layers)

    def to_noise(
        self, value: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows"]]:
        """noise = T(value; c) and log |det dT/dvalue|."""
        noise, log_det = run_to_noise(self.layers, *self._leading(value, context))
        return noise.movedim(0, -1), log_det

    def to_value(
        self, noise: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows"]]:
        """value = T^-1(noise; c) and log |det dvalue/dnoise|."""
        value, log_det = run_to_value(self.layers, *self._leading(noise, context))
        return value.movedim(0, -1), log_det

    def value(
        self, noise: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> Float[Tensor, "*rows d"]:
        """value = T^-1(noise; c) alone."""
        lead, given = self._leading(noise, context)
        for layer in reversed(cast("Sequence[Layer]", self.layers)):
            lead = layer.value(lead, given)
        return lead.movedim(0, -1)

    def log_prob(
        self, value: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> Float[Tensor, "*rows"]:
        """log q(value | context) in nats."""
        noise, log_det = run_to_noise(self.layers, *self._leading(value, context))
        return log_det + log_standard_normal(noise, dim=0)

    def loss(
        self, value: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> Float[Tensor, "*rows"]:
        """What training minimises, per row, in nats: -log q here; a family may have a bound on it."""
        return -self.log_prob(value, context)

    def settle(self, value: Float[Tensor, "rows d"], context: Float[Tensor, "rows k"]) -> None:
        """Choose, after training, what depends on the trained weights, by rows that were held out. Nothing
        here.
        """

    def draw(
        self, noise: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows"]]:
        """value = T^-1(noise; c) and log q(value | c) in nats, in one pass.

        For noise from N(0, I) these are draws from q, differentiable in its weights.
        """
        value, log_det = self.to_value(noise, context)
        return value, log_standard_normal(noise) - log_det

    def _leading(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Value and context, components first, the context with as many axes as the value."""
        rows, given = value.shape[:-1], context.shape[:-1]
        given = (1,) * (len(rows) - len(given)) + given
        fits = len(given) == len(rows) and all(
            have in (1, wanted) for have, wanted in zip(given, rows, strict=True)
        )
        if value.shape[-1:] != (self.d,) or context.shape[-1:] != (self.context,) or not fits:
            raise ShapeError(
                f"the flow takes values (*rows, {self.d}) and contexts (*rows, {self.context}), where a "
                "context may have length 1 along an axis or lack leading axes, "
                f"got {tuple(value.shape)} and {tuple(context.shape)}."
            )
        return value.movedim(-1, 0).contiguous(), context.reshape(*given, self.context).movedim(-1, 0)
