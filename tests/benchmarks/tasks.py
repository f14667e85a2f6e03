"""Accuracy on the public benchmark: `python -m tests.benchmarks.tasks [--quick] [--only TASK,...] [--budget
1000,...]`. Not run by pytest.

Ten tasks of Lueckmann et al. (2021, arXiv:2101.04653), ten observations each, at 1,000, 10,000 and 100,000
simulations: C2ST of 10,000 draws against 10,000 reference draws, lower is better, 0.5 is perfect. One
amortised fit serves the ten observations. Each cell is kept in --results; the same call resumes, also inside
a cell. --table prints what is there, --bars holds it to the bars of this round of work, --readme FILE writes
it between that file's marks.

    --references DIR         published draws (<task>.npz with y_obs and reference); missing ones are made
                             (tests.benchmarks.references)
    --peers PYTHON           sbi on the same simulations too, run by that Python
    --settings JSON          sf.FitSettings fields for ours, under another method name (--label, or the
                             settings themselves)
    --quick                  3 observations and 2,000 draws: kept and printed apart from full cells
    --scorers N              score N observations at a time, in processes with one thread each
    --cells N, --minutes M   stop after N cells or M minutes; the next call resumes
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.cells import OURS, PEER, Cell, Fit, finished, fit_ours, fit_sbi, read, run
from tests.benchmarks.references import TASKS
from tests.benchmarks.sections import parser_of
from tests.benchmarks.table import BUDGETS, against_bars, compact, into, markdown, records

RESULTS = Path("tests/benchmarks/results")


def wanted(options: argparse.Namespace) -> list[Cell]:
    """The cells that were asked for, small budgets first."""
    settings: dict[str, Any] = json.loads(options.settings) if options.settings else {}
    label = options.label or ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(settings.items()))
    ours = f"{OURS} {label}" if label else OURS
    methods = ([] if options.peers_only else [(ours, settings)]) + ([(PEER, {})] if options.peers else [])
    return [
        Cell(task, budget, method, seed, options.quick, of)
        for budget in options.budget
        for task in options.only
        for seed in options.seeds
        for method, of in methods
    ]


def summary(record: dict[str, Any]) -> str:
    """One line on a cell."""
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in record["seconds"].items())
    scores = (
        f"C2ST {np.mean(list(record['c2st'].values())):.3f} over {len(record['c2st'])}"
        if record["c2st"]
        else "no score yet"
    )
    held_out = f"held-out log density {record['held_out']['mean']:.3f} +- {record['held_out']['error']:.3f}"
    unfinished = "" if finished(record) else " (unfinished: the same call resumes)"
    return (
        f"{record['task']} {record['budget']:,} {record['method']}: {scores}; {held_out} nats; "
        f"{seconds}{unfinished}"
    )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=TASKS)
    parser.add_argument("--budget", type=lambda text: [int(n) for n in text.split(",")], default=BUDGETS)
    parser.add_argument("--seeds", type=lambda text: [int(n) for n in text.split(",")], default=[1])
    parser.add_argument("--settings")
    parser.add_argument("--label")
    parser.add_argument("--peers", help="a Python with sbi")
    parser.add_argument("--peers-only", action="store_true")
    parser.add_argument("--references", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scorers", type=int, default=1)
    parser.add_argument("--cells", type=int, default=10**9)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument(
        "--table", action="store_true", help="print the table of what is there, and run nothing"
    )
    parser.add_argument(
        "--bars", action="store_true", help="print full cells and their bars, and run nothing"
    )
    parser.add_argument(
        "--readme", type=Path, help="write the table of full cells into this file, and run nothing"
    )
    options = parser.parse_args()
    unknown = set(options.only) - set(TASKS) or set(options.budget) - set(BUDGETS)
    if unknown:
        parser.error(f"unknown: {sorted(unknown)}; tasks are {', '.join(TASKS)}, budgets {BUDGETS}.")
    if options.table:
        print(markdown(records(options.results, quick=options.quick), quick=options.quick))
        return
    if options.bars:
        print(against_bars(records(options.results, quick=False)))
        return
    if options.readme:
        table = compact(records(options.results, quick=False))
        options.readme.write_text(into(options.readme.read_text(encoding="utf-8"), table), encoding="utf-8")
        return
    until, done = time.monotonic() + 60 * options.minutes, 0
    for cell in wanted(options):
        if done >= options.cells or time.monotonic() > until:
            break
        if finished(read(options.results, cell)):
            continue
        fit: Fit = fit_sbi(options.peers, options.results) if cell.method == PEER else fit_ours
        print(
            summary(run(cell, options.results, fit, options.references, until, options.scorers)), flush=True
        )
        done += 1


if __name__ == "__main__":
    main()
