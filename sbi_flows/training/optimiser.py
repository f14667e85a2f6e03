"""The optimiser of `train`: orthogonalised momentum for matrices, AdamW for all else.

    b <- beta b + (1 - beta) g,   m = beta b + (1 - beta) g                      Nesterov momentum, beta = 0.95
    W <- (1 - r w) W - r 0.2 sqrt(max(rows, columns)) polar(m)

with r the learning rate, w the weight decay, and polar(m) = U V' for m = U S V', by Newton-Schulz iterations.
All directions of a matrix then move at the same speed, where AdamW moves mostly along the few that dominate
the gradient. Muon: Jordan (2024); the factor 0.2 sqrt(max(rows, columns)) gives the update the size that AdamW's has, so
both share one rate: Liu et al. (2025), 2502.16982. AdamW: Loshchilov & Hutter (2019), 1711.05101.

A matrix is a weight whose sides are both 16 or more, convolutions flattened to (out, in x kernel). Where a layer has a mask, the
update is multiplied by it: the gradient is zero outside, so the inner product of update and gradient, by which the loss
falls, stays the same. Matrices of one shape are orthogonalised together. (torch.optim.Muon takes no convolutions and no masks,
and one matrix at a time.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_MOMENTUM, _SIZE = 0.95, 0.2
_LEAST_SIDE = 16
_TINY = 1e-12
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_STEPS = ((3.4445, -4.7750, 2.0315),) * 5


class Optimiser:
    """The parameters of `module` that require a gradient, and the state of their optimisation.

    kind: "muon" or "adamw", which is AdamW for all of them.
    undecayed: prefixes of names of weights without weight decay, besides biases and norms.
    """

    def __init__(self, module: nn.Module, kind: str, weight_decay: float, undecayed: Sequence[str]) -> None:
        self.parameters: list[Tensor] = []
        matrices: list[_Matrix] = []
        free: list[Tensor] = []
        decayed: list[Tensor] = []
        masks = dict(_masks(module))
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            self.parameters.append(parameter)
            spared = parameter.ndim < 2 or name.startswith(tuple(undecayed) or ("\0",))
            if kind == "muon" and parameter.ndim > 1 and min(_flat(parameter).shape) >= _LEAST_SIDE:
                matrices.append(_Matrix(parameter, masks.get(name), 0.0 if spared else weight_decay))
            else:
                (free if spared else decayed).append(parameter)
        groups = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]] or groups[:1]
        self.adamw = torch.optim.AdamW(groups, lr=0.0, weight_decay=weight_decay, fused=True) if decayed + free else None
        self.alike = [_Alike(part) for part in _by_shape(matrices)]

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold besides the parameters."""
        found = {f"muon/{i}": matrices.momentum for i, matrices in enumerate(self.alike)}
        for i, parameter in enumerate(self.parameters):
            # A parameter that no loss has reached has no moments.
            if self.adamw is not None and (moments := self.adamw.state.get(parameter)):
                found |= {f"adam/{i}/{key}": moments[key] for key in _MOMENTS}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` gave."""
        for i, matrices in enumerate(self.alike):
            matrices.momentum.copy_(state[f"muon/{i}"])
        for i, parameter in enumerate(self.parameters):
            if self.adamw is not None and f"adam/{i}/step" in state:
                self.adamw.state[parameter] = {key: state[f"adam/{i}/{key}"] for key in _MOMENTS}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take a step along the gradients of the parameters, at this learning rate."""
        if self.adamw is not None:
            for group in self.adamw.param_groups:
                group["lr"] = rate
            self.adamw.step()
        for matrices in self.alike:
            matrices.step(rate)


@dataclass(frozen=True, eq=False)
class _Matrix:
    weight: Tensor
    mask: Tensor | None
    decay: float


class _Alike:
    """Matrices of one shape, taken with their shorter side as rows, and their momentum (matrices, rows, columns)."""

    def __init__(self, matrices: Sequence[_Matrix]) -> None:
        self.weights = [matrix.weight for matrix in matrices]
        self.tall = _flat(self.weights[0]).shape[0] > _flat(self.weights[0]).shape[1]
        decays = torch.tensor([matrix.decay for matrix in matrices])
        self.decays = [float(decay) for decay in decays]
        self.momentum = torch.zeros_like(self._stacked(self.weights))
        self.size = _SIZE * self.momentum.shape[-1] ** 0.5
        masks = [torch.ones_like(m.weight) if m.mask is None else m.mask for m in matrices]
        self.mask = None if all(m.mask is None for m in matrices) else self._stacked(masks)

    def step(self, rate: float) -> None:
        gradient = self._stacked([torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights])
        self.momentum.lerp_(gradient, 1 - _MOMENTUM)
        update = polar(gradient.lerp_(self.momentum, _MOMENTUM))
        if self.mask is not None:
            update *= self.mask
        if self.tall:
            update = update.mT
        torch._foreach_mul_(self.weights, [1 - rate * decay for decay in self.decays])
        parts = [part.reshape(weight.shape) for part, weight in zip(update, self.weights, strict=True)]
        torch._foreach_add_(self.weights, parts, alpha=-rate * self.size)

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        stack = torch.stack([_flat(tensor) for tensor in tensors])
        return stack.mT.contiguous() if self.tall else stack


def polar(matrices: Tensor) -> Tensor:
    """About U V' of each matrix U S V' (matrices, rows, columns), rows <= columns; a matrix of zeros stays zero."""
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=_TINY)
    for a, b, c in _STEPS:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _flat(weight: Tensor) -> Tensor:
    return weight.reshape(len(weight), -1)


def _masks(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The masks of weights, by the name of the weight."""
    for name, part in module.named_modules():
        if isinstance(getattr(part, "weight", None), Tensor) and isinstance(getattr(part, "mask", None), Tensor):
            yield f"{name}.weight" if name else "weight", part.mask


def _by_shape(matrices: Sequence[_Matrix]) -> list[list[_Matrix]]:
    found: dict[tuple[int, ...], list[_Matrix]] = {}
    for matrix in matrices:
        found.setdefault(tuple(_flat(matrix.weight).shape), []).append(matrix)
    return list(found.values())
