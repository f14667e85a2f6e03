"""The optimiser of `train`: orthogonalised momentum for matrices, AdamW for all else.

    b <- beta b + (1 - beta) g,   m = beta b + (1 - beta) g             Nesterov momentum, beta = 0.95
    W <- (1 - r w) W - r 0.2 sqrt(max(rows, columns)) polar(m)

with r the learning rate, w the weight decay, and polar(m) = U V' for m = U S V'. All directions of a matrix
then move at the same speed, where AdamW moves mostly along the few that dominate the gradient. Muon: Jordan
(2024). The factor 0.2 sqrt(max(rows, columns)) gives the update the size that AdamW's has, so both share one
rate: Liu et al. (2025), 2502.16982. AdamW: Loshchilov & Hutter (2019), 1711.05101.

polar(m) is computed to within what training needs, by three steps x <- (a + b x x' + c (x x')^2) x from
m / |m|. The coefficients are the best for singular values from 0.3% of |m| on, which end between 0.35 and
1.65, as in Amsel et al. (2025), 2505.16932. Five steps train no better, and two train worse.

A matrix is a weight whose sides are both 16 or more, convolutions flattened to (out, in x kernel). Where a
layer has a mask, the update is multiplied by it: the gradient is zero outside, so the inner product of update
and gradient, by which the loss falls, stays the same. Matrices of one shape are orthogonalised together.
torch.optim.Muon takes no convolutions and no masks, one matrix at a time, and rounds to bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

_MOMENTUM, _SIZE = 0.95, 0.2
_LEAST_SIDE = 16
_TINY = 1e-12
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_STEPS = ((8.3837, -24.7659, 18.3571), (4.0434, -3.0114, 0.5695), (3.5056, -2.6267, 0.5257))


class Optimiser:
    """The parameters of `module` that require a gradient, and the state of their optimisation.

    kind: "muon" or "adamw", which is AdamW for all of them.
    undecayed: prefixes of names of weights without weight decay, besides biases and norms.
    matrices: prefixes of names of the matrices that "muon" takes.
    """

    def __init__(
        self,
        module: nn.Module,
        kind: str,
        weight_decay: float,
        *,
        undecayed: Sequence[str] = (),
        matrices: Sequence[str] = (),
    ) -> None:
        self.parameters: list[Tensor] = []
        groups: dict[float, list[Tensor]] = {weight_decay: [], 0.0: []}
        taken: dict[tuple[int, ...], list[_Matrix]] = {}
        masks = dict(_masks(module))
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            self.parameters.append(parameter)
            spared = parameter.ndim < 2 or name.startswith(tuple(undecayed))
            decay = 0.0 if spared else weight_decay
            chosen = kind == "muon" and name.startswith(tuple(matrices))
            if chosen and parameter.ndim > 1 and min(shape := _flat(parameter).shape) >= _LEAST_SIDE:
                taken.setdefault(tuple(shape), []).append(_Matrix(parameter, masks.get(name), decay))
            else:
                groups[decay].append(parameter)
        self._alike = [_Alike(found) for found in taken.values()]
        kept: list[dict[str, object]] = [
            {"params": found, "weight_decay": decay} for decay, found in groups.items() if found
        ]
        self._adamw = torch.optim.AdamW(kept, fused=True) if kept else None

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take a step along the gradients of the parameters, at this learning rate."""
        if self._adamw is not None:
            for group in self._adamw.param_groups:
                group["lr"] = rate
            self._adamw.step()
        for matrices in self._alike:
            matrices.step(rate)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold besides the parameters."""
        found = {f"muon/{i}": matrices.momentum for i, matrices in enumerate(self._alike)}
        for i, parameter in enumerate(self.parameters):
            # A parameter that no loss has reached has no moments.
            if self._adamw is not None and (moments := self._adamw.state.get(parameter)):
                found |= {f"adam/{i}/{key}": moments[key] for key in _MOMENTS}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` gave."""
        for i, matrices in enumerate(self._alike):
            matrices.momentum.copy_(state[f"muon/{i}"])
        for i, parameter in enumerate(self.parameters):
            if self._adamw is not None and f"adam/{i}/step" in state:
                self._adamw.state[parameter] = {key: state[f"adam/{i}/{key}"] for key in _MOMENTS}


@dataclass(frozen=True, eq=False)
class _Matrix:
    weight: Tensor
    mask: Tensor | None
    decay: float


class _Alike:
    """Matrices of one shape, and their momentum (matrices, rows, columns), the shorter side as rows."""

    def __init__(self, matrices: Sequence[_Matrix]) -> None:
        self._weights = [matrix.weight for matrix in matrices]
        self._decays = [matrix.decay for matrix in matrices]
        rows, columns = _flat(self._weights[0]).shape
        self._tall = rows > columns
        self.momentum = torch.zeros_like(self._stacked(self._weights))
        self._size = _SIZE * max(rows, columns) ** 0.5
        masks = [torch.ones_like(m.weight) if m.mask is None else m.mask for m in matrices]
        self._mask = None if all(m.mask is None for m in matrices) else self._stacked(masks)

    def step(self, rate: float) -> None:
        gradient = self._stacked([torch.zeros_like(w) if w.grad is None else w.grad for w in self._weights])
        self.momentum.lerp_(gradient, 1 - _MOMENTUM)
        update = polar(gradient.lerp_(self.momentum, _MOMENTUM))
        if self._mask is not None:
            update *= self._mask
        turned = update.mT if self._tall else update
        parts = [part.reshape(weight.shape) for part, weight in zip(turned, self._weights, strict=True)]
        torch._foreach_mul_(self._weights, [1 - rate * decay for decay in self._decays])
        torch._foreach_add_(self._weights, parts, alpha=-rate * self._size)

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        stack = torch.stack([_flat(tensor) for tensor in tensors])
        return stack.mT.contiguous() if self._tall else stack


def polar(matrices: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """About U V' of each matrix U S V', rows <= columns. A matrix of zeros stays zero."""
    x = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=_TINY)
    for a, b, c in _STEPS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    found: Tensor = x
    return found


def _flat(weight: Tensor) -> Tensor:
    return weight.reshape(len(weight), -1)


def _masks(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The masks of weights, by the name of the weight."""
    for name, part in module.named_modules():
        mask = getattr(part, "mask", None)
        if isinstance(mask, Tensor) and isinstance(getattr(part, "weight", None), Tensor):
            yield f"{name}.weight".removeprefix("."), mask
