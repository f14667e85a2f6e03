"""The conditional flow q(value | context): one class for q(theta | y) and for q(z | x).

    noise = T(value; c),   noise ~ N(0, I):     log q(value | c) = log N(T(value; c); 0, I) + log |det
    dT/dvalue|

T is a conditional affine layer followed by the layers of a recipe (`flows.recipes`). Papamakarios et al.
(2021), 1912.02762. Directions are called `to_noise` and `to_value`; `cheap` says which of "density" and
"sample" costs one pass a layer.

Rows may have any number of axes, and a context may have 1, or no axis, where it does not vary: n values for
each of m contexts are values (m, n, d) and contexts (m, 1, k), and what the networks make of a context is
computed m times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.errors import ShapeError
from sbi_flows.flows.layers import ConditionalAffine, Layer, check_layers

_LOG_2PI = math.log(2 * math.pi)


class ConditionalFlow(nn.Module):
    """q(value | context) over R^d, given `context` numbers; there may be none, where contexts are (...,
    0).
    """

    def __init__(self, d: int, context: int, layers: Sequence[Layer]) -> None:
        check_layers(layers, "ConditionalFlow")
        super().__init__()
        self.d = d
        self.context = context
        self.layers = nn.ModuleList([ConditionalAffine(d, context), *layers])
        self.cheap: frozenset[str] = frozenset.intersection(
            *(layer.cheap for layer in layers), frozenset({"density", "sample"})
        )

    def to_noise(
        self, value: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows"]]:
        """noise = T(value; c) and log |det dT/dvalue|. Raises `ShapeError` where contexts do not broadcast to
        the values' rows.
        """
        noise, log_det = self._noise_and_log_det(value, context)
        return noise.movedim(0, -1), log_det

    def to_value(
        self, noise: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows"]]:
        """value = T^-1(noise; c) and log |det dvalue/dnoise|. Raises `ShapeError` where contexts do not
        broadcast to the noise's rows.
        """
        lead, given = self._leading(noise, context)
        log_det = noise.new_zeros(noise.shape[:-1])
        for layer in reversed(cast("Sequence[Layer]", self.layers)):
            lead, step = layer.to_value(lead, given)
            log_det = log_det + step
        return lead.movedim(0, -1), log_det

    def value(
        self, noise: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> Float[Tensor, "*rows d"]:
        """value = T^-1(noise; c) alone. Raises `ShapeError` where contexts do not broadcast to the noise's
        rows.
        """
        lead, given = self._leading(noise, context)
        for layer in reversed(cast("Sequence[Layer]", self.layers)):
            lead = layer.value(lead, given)
        return lead.movedim(0, -1)

    def log_prob(
        self, value: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> Float[Tensor, "*rows"]:
        """log q(value | context) in nats. Raises `ShapeError` where contexts do not broadcast to the values'
        rows.
        """
        noise, log_det = self._noise_and_log_det(value, context)
        return log_det - 0.5 * (noise.square().sum(dim=0) + self.d * _LOG_2PI)

    def draw(
        self, noise: Float[Tensor, "*rows d"], context: Float[Tensor, "*#rows k"]
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows"]]:
        """value = T^-1(noise; c) and log q(value | c) in nats, in one pass; for noise from N(0, I),
        differentiable draws.

        Raises `ShapeError` where contexts do not broadcast to the noise's rows.
        """
        value, log_det = self.to_value(noise, context)
        return value, -log_det - 0.5 * (noise.square().sum(dim=-1) + self.d * _LOG_2PI)

    def _noise_and_log_det(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        lead, given = self._leading(value, context)
        log_det = value.new_zeros(value.shape[:-1])
        for layer in cast("Sequence[Layer]", self.layers):
            lead, step = layer.to_noise(lead, given)
            log_det = log_det + step
        return lead, log_det

    def _leading(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Value and context with their components as the first axis, the context with as many axes as the
        value.
        """
        rows, given = value.shape[:-1], context.shape[:-1]
        given = (1,) * (len(rows) - len(given)) + given
        fits = len(given) == len(rows) and all(
            have in (1, wanted) for have, wanted in zip(given, rows, strict=True)
        )
        if value.shape[-1:] != (self.d,) or context.shape[-1:] != (self.context,) or not fits:
            raise ShapeError(
                f"the flow takes values (*rows, {self.d}) and contexts (*rows, {self.context}), where the "
                f"contexts' rows may be 1 along an "
                f"axis or lack leading axes, got {tuple(value.shape)} and {tuple(context.shape)}."
            )
        return value.movedim(-1, 0).contiguous(), context.reshape(*given, self.context).movedim(-1, 0)
