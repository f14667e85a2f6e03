"""Marginals as a file holds them: rebuilt, or compared with those that the user passes again."""

from __future__ import annotations

from typing import Any

import numpy as np

from sbi_flows.errors import PriorError
from sbi_flows.problem.conditional import Conditional
from sbi_flows.problem.groups import group_from_json
from sbi_flows.problem.marginals import Marginal, marginal_from_json
from sbi_flows.problem.product import Marginals

NOT_IN_FILES = ("custom", "conditional")
_DRAWS = 8


def marginals_from_json(records: list[dict[str, Any]], known: Marginals, *, stored_maps: bool) -> Marginals:
    """Rebuild marginals; those that a file cannot hold are taken from `known`. Raises `PriorError`."""
    made: Marginals = {}
    for record in records:
        name, source = record["name"], record.get("source")
        if source in NOT_IN_FILES and name in known:
            made[name] = known[name]
        elif source == "conditional":
            raise PriorError(
                f"prior {name}: {record.get('text', record)!r} is a function of other parameters, and a "
                "file holds no code. Pass the prior again: sf.load(path, prior=my_simulator.prior), "
                "sf.read_bank(path, prior=my_simulator.prior)."
            )
        elif source == "iid":
            made[name] = group_from_json(record)
        else:
            made[name] = marginal_from_json(record, stored_map=stored_maps)
    return made


def _fixed_from_json(record: dict[str, Any]) -> Marginal:
    """A marginal that a file can hold."""
    return group_from_json(record) if record.get("source") == "iid" else marginal_from_json(record)


def check_same(there: dict[str, Any], here: dict[str, Any], marginal: Marginal | Conditional) -> None:
    """Raise `PriorError` unless the stored marginal is the one that was passed, `marginal` with its record
    `here`.

    Of a user's own class only the name can be compared.
    """
    if there == here:
        return
    name = there["name"]
    if isinstance(marginal, Conditional):
        how = f"it was {_text(there)}" if there["source"] != "conditional" else marginal.differs(there)
        if how:
            raise PriorError(
                f"prior {name}: the function that was passed gives another distribution than the stored "
                f"one: {how}. Pass the prior that was fitted with."
            )
        return
    if there["source"] == "conditional" or (
        "custom" not in (there["source"], here["source"]) and not _same(there, here)
    ):
        raise PriorError(
            f"the posterior was fitted with {_text(there)}, the prior that was passed has {_text(here)}. "
            "Pass the prior that was fitted with"
            + ("." if there["source"] == "conditional" else ", or none: this marginal is in the file.")
        )


def _same(there: dict[str, Any], here: dict[str, Any]) -> bool:
    """Whether two marginals that are written differently are one and the same."""
    one, other = _fixed_from_json(there), _fixed_from_json(here)
    theta = other.sample(_DRAWS, np.random.default_rng(0))
    return one.size == other.size and np.allclose(one.log_prob(theta), other.log_prob(theta))


def _text(record: dict[str, Any]) -> str:
    if "text" in record:
        return f"{record['name']} {record['text']}"
    left_out = ("name", "kind", "source")
    rest = {key: record[key] for key in sorted(record) if key not in left_out and record[key] not in ([], {})}
    return " ".join([record["name"], record.get("kind", record["source"]), *map(str, rest.values())])
