"""The masked network of autoregressive layers, made by `flows.bridge`: p parameters of each component, from
the context and the components before it.

    outer = silu(W_c c + b_c) + b_0,    inner = W_d c + b_d + b_1                      once per context
    h = W_0 v + outer,    g = h + W_2 silu(W_1 silu(h) + inner) + b_2,    parameters = W g + b

It runs as a whole, or by degrees. Units of degree i depend on components 1, ..., i only, so an inverse that
finds the components in turn computes each unit once: units of degree 0, parameters of component 1,
component 1, units of degree 1, parameters of component 2, ...
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from sbi_flows.flows.bridge import masked, units_of
from sbi_flows.flows.networks import Context, affine, affine_of, column


class MaskedNet(nn.Module):
    """(value, context) -> the p parameters of each component."""

    def __init__(self, d: int, context: int, width: int, start: tuple[float, ...]) -> None:
        super().__init__()
        self.d, self.p = d, len(start)
        self.units = units_of(d, width)
        net = masked(d, context, width, start)
        self.into, self.out = net.initial_layer, net.final_layer
        self.one, self.two = net.blocks[0].linear_layers
        self.outer, self.inner = net.context_layer, net.blocks[0].context_layer

    def forward(self, value: Float[Tensor, "d *rows"], context: Context) -> Float[Tensor, "d p *rows"]:
        outer, inner = self.of_context(context)
        w_0, w_1, w_2, w = self.weights()
        h = affine(w_0, value, outer)
        z = affine(w_1, silu(h), inner)
        g = affine(w_2, silu(z), column(self.two.bias, z)).add_(h)
        return affine(w, g, column(self.out.bias, g)).view(self.d, self.p, *value.shape[1:])

    def of_context(self, context: Context) -> tuple[Tensor, Tensor]:
        """outer and inner: all that the units get from the context, biases included."""
        outer = silu(affine_of(self.outer, context)) + column(self.into.bias, context)
        return outer, affine(self.inner.weight, context, column(self.inner.bias + self.one.bias, context))

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W_0, W_1, W_2 and W, masked."""
        w_0, w_1, w_2, w = (layer.weight * layer.mask for layer in (self.into, self.one, self.two, self.out))
        return w_0, w_1, w_2, w


class ByDegrees:
    """One evaluation of a masked network, component by component.

    Units of degree 0 depend on the context alone: they are computed once per context, with all that they give
    to other units and to the parameters. silu(h), silu(W_1 ...) and g of the other units so far are kept in
    one buffer; where gradients are wanted they are concatenated anew each time, because writing into a buffer
    would overwrite what the gradient needs. One buffer, not three: the C library then keeps as much memory at
    hand after its first use, and later ones cost no page faults, which took a third of the time.
    """

    def __init__(self, net: MaskedNet, context: Context, rows: torch.Size) -> None:
        self._p = net.p
        first = net.units[0].stop
        self._units = [slice(units.start - first, units.stop - first) for units in net.units]
        outer, inner = net.of_context(context)
        w_0, w_1, w_2, w = net.weights()
        h = outer[:first]
        a = silu(h)
        q = silu(affine(w_1[:first, :first], a, inner[:first]))
        g = affine(w_2[:first, :first], q, column(net.two.bias[:first], h)) + h
        self._outer = outer[first:]
        self._inner = affine(w_1[first:, :first], a, inner[first:])
        self._two = affine(w_2[first:, :first], q, column(net.two.bias[first:], h))
        self._out = affine(w[:, :first], g, column(net.out.bias, h))
        self._w_0, self._w_1 = w_0[first:], w_1[first:, first:]
        self._w_2, self._w = w_2[first:, first:], w[:, first:]
        self._kept = self._outer.new_empty((3, 0 if torch.is_grad_enabled() else len(self._outer), *rows))

    def parameters(self, i: int, before: Float[Tensor, "i *rows"]) -> Float[Tensor, "1 p *#rows"]:
        """The parameters of component i (from 0), given components 0, ..., i - 1; those of component 0 have
        the context's rows. To be called for i = 0, 1, ... in turn.
        """
        out = slice(i * self._p, (i + 1) * self._p)
        if i == 0:
            return self._out[None, out]
        new = self._units[i]
        h = affine(self._w_0[new, :i], before, self._outer[new])
        g = self._joined(h, new) if torch.is_grad_enabled() else self._written(h, new)
        return affine(self._w[out, : len(g)], g, self._out[out])[None]

    def _joined(self, h: Tensor, new: slice) -> Tensor:
        a, q, g = self._kept
        a = torch.cat([a, silu(h)])
        q = torch.cat([q, silu(affine(self._w_1[new, : new.stop], a, self._inner[new]))])
        g = torch.cat([g, affine(self._w_2[new, : new.stop], q, self._two[new]).add_(h)])
        self._kept = torch.stack([a, q, g])
        return g

    def _written(self, h: Tensor, new: slice) -> Tensor:
        n = h.shape[1:].numel()
        a, q, g = self._kept[:, : new.stop].view(3, new.stop, n)
        flat = h.view(len(h), n)
        torch.ops.aten.silu.out(flat, out=a[new])
        torch.mm(self._w_1[new, : new.stop], a, out=q[new])
        silu(self._kept[1, new].add_(self._inner[new]), inplace=True)
        torch.mm(self._w_2[new, : new.stop], q, out=g[new])
        g[new].add_(flat)
        self._kept[2, new].add_(self._two[new])
        return self._kept[2, : new.stop]
