"""The lines to type that give a comparison again."""

from __future__ import annotations

from sbi_flows.arrays import F
from sbi_flows.posterior.posterior import Posterior
from sbi_flows.problem.events import Table
from sbi_flows.problem.patterns import Gaps, Lengths, Like, Observe
from sbi_flows.problem.simulator import Simulator
from sbi_flows.simulation.stand_in import is_stand_in

_MOST_VALUES = 30


def lines(posterior: Posterior, simulator: Simulator, y_obs: F, n: int, seed: int) -> list[str]:
    """Commands and comments. y_obs: as it travels; n: draws; seed: of the comparison."""
    facts = posterior.facts
    if is_stand_in(simulator):
        return [
            "# pairs made elsewhere; theta.csv, data.csv and prior.py:prior stand for their files",
            f"sbi-flows fit --theta theta.csv --data data.csv --prior prior.py:prior --seed {facts['seed']} "
            "-o posterior.safetensors",
            f"# in Python: sf.compare(posterior, y_obs, simulations=..., n={n}, seed={seed})",
        ]
    name, minutes = facts["simulator"], facts["minutes"]
    budget = f"--minutes {minutes:g}" if minutes else f"-n {facts['simulations'] + facts['failed']}"
    clock = ["# --minutes: the clock decides the number of steps, so figures repeat closely but not exactly"]
    events = posterior.events
    files = {table.name: _file(table) for table in events.tables}
    given = " ".join(f"{of}={file}" if of else file for of, file in files.items())
    options, remarks = _patterns(posterior.observe, simulator.observe, files)
    values = events.unpack(y_obs)
    arrays = values if isinstance(values, dict) else {"": values}
    return [
        *(clock if minutes else []),
        "# add the settings given to sf.fit, if any. A simulator that is not a plug-in is named by its file,",
        f"# model.py:{name}, and compare also takes --simulator model.py:{name}",
        *remarks,
        f"sbi-flows fit {name} {budget}{options} --seed {facts['seed']} -o {name}.safetensors",
        f"sbi-flows compare {name}.safetensors {given} -n {n} --seed {seed} -o report.html",
        *(f"# {files[table.name]}{_layout(table)}: {_first(arrays[table.name])}" for table in events.tables),
    ]


def _file(table: Table) -> str:
    ending = "npy" if table.kind is not None and len(table.shape) > 2 else "csv"
    return f"{table.name or 'observed'}.{ending}"


def _layout(table: Table) -> str:
    if table.kind is None or len(table.shape) < 2:
        return ", one value per line"
    return f", shape {table.shape}, one row per line" if len(table.shape) == 2 else f", shape {table.shape}"


def _patterns(observe: Observe | None, usual: Observe | None, files: dict[str, str]) -> tuple[str, list[str]]:
    """Options of `fit` for the patterns that were trained for, and remarks on those that have none."""
    if observe is None or (usual is not None and usual.to_json() == observe.to_json()):
        return "", []
    options, beyond = "", False
    for part in observe.parts:
        if isinstance(part, Gaps) and part.table is None and part.by == "value":
            options += f" --gaps {part.share[0]:g} {part.share[1]:g}"
        elif isinstance(part, Lengths) and part.table is None:
            options += f" --lengths {part.least} {part.most}"
        elif isinstance(part, Like):
            options += "".join(f" --like {f'{name}=' if name else ''}{file}" for name, file in files.items())
            beyond = beyond or len(part.there) > 1
        else:
            beyond = True
    remark = ["# trained for further patterns of gaps or lengths, in Python: sf.fit(..., like= or observe=)"]
    return options, remark if beyond else []


def _first(y: F) -> str:
    flat = y.reshape(-1)
    more = f" ... ({flat.size} in all)" if flat.size > _MOST_VALUES else ""
    digits = (12 if value == round(value, 6) else 17 for value in flat[:_MOST_VALUES])
    shown = (f"{value:.{most}g}" for value, most in zip(flat, digits, strict=False))
    return f"{' '.join(shown)}{more}"
