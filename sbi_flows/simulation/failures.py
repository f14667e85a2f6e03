"""What went wrong in a campaign: how often, why, and where in theta."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

STATUS = ("ok", "nonfinite", "raised", "timeout", "died", "shape")
OK, NONFINITE, RAISED, TIMEOUT, DIED, SHAPE = range(6)
FIFTHS = ("lowest fifth", "second", "third", "fourth", "highest fifth")
MEANT = (
    "If the truncation is meant, write the parameter as a function of the earlier ones in sf.Prior: "
    'adult=lambda p: uniform(p["young"], 1 - p["young"]). If NaN means "not observed", declare that: '
    "missing=True."
)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_LONGEST_KIND = 200


@dataclass(frozen=True)
class Failure:
    """One failed simulation; the traceback is that of what it raised."""

    row: int
    block: int
    status: str
    cause: str
    traceback: str
    theta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Failures:
    """All failed rows of some simulations.

    Printing shows all of it in words.

    table: one row per cause (status, cause, count, share of all rows). Numbers in a cause are written as #,
        so that similar causes count as one.
    where: for each parameter, the share of rows that failed in each fifth of its simulated values. Equal
        shares mean that failing does not depend on it.
    records: a sample of `Failure`, with tracebacks.
    """

    n: int
    table: pd.DataFrame
    where: pd.DataFrame
    records: tuple[Failure, ...]

    def __len__(self) -> int:
        return int(self.table["count"].sum())

    def __bool__(self) -> bool:
        return len(self) > 0

    def __str__(self) -> str:
        if not self:
            return f"none of {self.n:,} simulations failed"
        table = self.table.assign(share=[f"{share:.2%}" for share in self.table["share"]])
        shares = self.where.map(lambda share: f"{share:.1%}")
        parts = (
            f"{len(self):,} of {self.n:,} simulations failed",
            table.to_string(index=False),
            f"share that failed, by fifths of the simulated values of each parameter\n{shares.to_string()}",
            "Failed rows are left out of training and of ABC. Where failing depends on theta, leaving them "
            "out truncates the prior to the part that runs. The posterior is then that of this prior."
            + (f" {MEANT}" if (self.table["status"] == STATUS[NONFINITE]).any() else ""),
        )
        return "\n\n".join(parts)

    @classmethod
    def of(
        cls,
        names: tuple[str, ...],
        theta: Float[np.ndarray, "n d"],
        codes: NDArray[np.uint8],
        kinds: list[str],
        records: tuple[Failure, ...],
    ) -> Failures:
        """From all rows: their theta and codes, and the kind of cause of each failed row, in order."""
        import pandas as pd

        bad = codes != OK
        causes = pd.DataFrame({"status": np.array(STATUS)[codes[bad]], "cause": kinds}, dtype=object)
        counts = causes.value_counts().reset_index(name="count") if kinds else causes.assign(count=0)
        order = ["count", "status", "cause"]
        counts = counts.sort_values(order, ascending=[False, True, True], ignore_index=True)
        by_size = np.argsort(theta, axis=0, kind="stable")
        shares = [[float(bad[fifth].mean()) for fifth in np.array_split(rows, 5)] for rows in by_size.T]
        where = pd.DataFrame(shares, index=list(names), columns=list(FIFTHS))
        return cls(len(codes), counts.assign(share=counts["count"] / len(codes)), where, records)


def kind_of(cause: str, code: int) -> str:
    """The cause in one line of at most 200 characters, with # for its numbers unless they are a shape."""
    lines = cause.strip().split("\n")
    line = f"{lines[0]} {lines[-1].strip()}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    line = line if code == SHAPE else _NUMBER.sub("#", line)
    return line if len(line) <= _LONGEST_KIND else f"{line[: _LONGEST_KIND - 3]}..."


def pack_kinds(kinds: tuple[str, ...]) -> dict[str, Any]:
    """Kinds of causes as distinct texts and places, for a manifest."""
    distinct = sorted(set(kinds))
    place = {kind: i for i, kind in enumerate(distinct)}
    return {"kinds": distinct, "of": [place[kind] for kind in kinds]}


def unpack_kinds(packed: dict[str, Any]) -> tuple[str, ...]:
    """Back from `pack_kinds`."""
    return tuple(packed["kinds"][i] for i in packed["of"])
