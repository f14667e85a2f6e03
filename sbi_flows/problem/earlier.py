"""The values of earlier parameters, as a function of them is given them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sbi_flows.arrays import F
from sbi_flows.errors import PriorError


class Earlier(dict[str, F]):
    """The earlier parameters by name, as a function of them is given them: (n,), or (n, k) of a block.

    asked: the names that it has read.
    """

    def __init__(self, values: Mapping[str, F], refuse: Callable[[str], PriorError]) -> None:
        super().__init__({name: _read_only(value) for name, value in values.items()})
        self.asked: dict[str, None] = {}
        self._refuse = refuse

    def __getitem__(self, name: str) -> F:
        self.asked[name] = None
        return super().__getitem__(name)

    def __missing__(self, name: str) -> F:
        raise self._refuse(name)


class UnknownEarlierError(PriorError):
    """A function of earlier parameters asks for one that is not earlier."""

    def __init__(self, name: str, asked: str, order: tuple[str, ...]) -> None:
        self.name, self.asked = name, asked
        written = ", ".join(order)
        if asked == name:
            why = f"the function of {name} asks for {name} itself"
        elif asked in order:
            why = f"the function of {name} asks for {asked}, which comes after it; write {asked} first"
        else:
            why = f"the function of {name} asks for {asked!r}, and there is no such parameter"
        super().__init__(f"prior {name}: {why}. The order as written is {written}.")


def _read_only(value: F) -> F:
    view = np.array(value)
    view.flags.writeable = False
    return view
