"""A summary network of the user's own: any torch module.

    s(y) = module(y)              complete data
    s(y) = module(y, mask)        where values may be missing: 0 in their place, and a mask of 1 and 0

y is scaled: (rows, m) for a vector; (rows, *axes, channels) for a series, set or grid; a mapping of these by
name, and masks likewise, where y is a mapping. The module returns (rows, k), for any k.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sbi_flows.errors import SettingsError
from sbi_flows.nets.inputs import Inputs
from sbi_flows.nets.layout import Layout
from sbi_flows.nets.masks import observed
from sbi_flows.nets.vector import VectorSummary

OWN = "own"


class OwnSummary(nn.Module):
    """A copy of the user's module; behind it, where declared summaries t(y) join, plus a `VectorSummary` of
    t.

    features: k. restart: let those of its modules that can begin from other weights, for a further member of
    an ensemble. Raises `SettingsError` where the module does not take such data, or returns another shape.
    """

    def __init__(self, module: nn.Module, inputs: Inputs, *, restart: bool = False) -> None:
        super().__init__()
        if inputs.layout is None:
            raise SettingsError("a summary network of your own needs to know what y is.")
        self.layout: Layout = inputs.layout
        self.module = copy.deepcopy(module).float().train()
        if restart:
            for part in self.module.modules():
                if callable(reset := getattr(part, "reset_parameters", None)):
                    reset()
        self.features = self._try(inputs)
        declared = inputs.shapes[1][0] if inputs.declared is not None else 0
        self.declared = VectorSummary(declared, self.features, 64) if declared else None

    def forward(
        self, y: Float[Tensor, "rows ..."], *t: Float[Tensor, "rows k"]
    ) -> Float[Tensor, "rows features"]:
        out: Tensor = self.module(*self._arguments(y))
        return out if self.declared is None else out + self.declared(*t)

    def _arguments(self, y: Tensor) -> list[Any]:
        parts = y.reshape(len(y), -1).split([part.size for part in self.layout.parts], dim=1)
        arrays = {
            part.name: values.reshape(len(y), *part.axes, part.channels)
            for part, values in zip(self.layout.parts, parts, strict=True)
        }
        masks: dict[str, Tensor] = {}
        if self.layout.masked:
            for name, values in arrays.items():
                arrays[name], masks[name] = observed(values)
        given = [arrays, masks] if self.layout.masked else [arrays]
        return given if "" not in arrays else [part[""] for part in given]

    def _try(self, inputs: Inputs) -> int:
        """How many summaries the module returns."""
        rows = torch.zeros(3, *inputs.shapes[0])
        try:
            with torch.no_grad():
                out = self.module(*self._arguments(rows))
        except Exception as error:
            shapes = {part.name or "y": (3, *part.axes, part.channels) for part in self.layout.parts}
            mask = " and a mask of that shape" if self.layout.masked else ""
            raise SettingsError(
                f"summary={type(self.module).__name__} raised {type(error).__name__} for scaled data of "
                f"shape {shapes if len(shapes) > 1 else shapes.popitem()[1]}{mask}: {error}. It takes "
                "those, and returns (rows, k)."
            ) from error
        if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 3 or not out.shape[1]:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise SettingsError(
                f"summary={type(self.module).__name__} returned {found} for 3 rows; wanted a tensor (3, k)."
            )
        return int(out.shape[1])
