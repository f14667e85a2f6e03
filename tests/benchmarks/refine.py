"""`posterior.refine` against reference posteriors: `python -m tests.benchmarks.refine ricker slcp two_moons
... [--fits DIR] [--references DIR]`. Not run by pytest.

ricker       the data sets of DIR with T = 100 (<name>.npz with x_obs, draws, post_mean, post_sd and
             log_evidence) from a fit of four minutes: 2,000 draws against 2,000
other tasks  ten public observations from a fit to 10,000 simulations: 10,000 draws against 10,000
             (`tests.benchmarks.references`). method="likelihood" also where a closed form is known

A fit that is in --fits (<task>.safetensors) is used, else it is made and kept there. Each data set is written
at once to --results as JSON, with seconds of wall clock and of this process, and the load of the machine.

    --observations 1,2     only these; of ricker, names
    --draws 2000           fewer draws of the other tasks, against as many
    --neural               score the amortised posterior too
    --no-score             draw only, without C2ST
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sbi_flows as sf
from sbi_flows.diagnostics.distances import c2st
from sbi_flows.files import make_folder, write_bytes
from tests.benchmarks.references import reference
from tests.benchmarks.sections import parser_of

F = NDArray[np.float64]
RESULTS = Path("tests/benchmarks/results/refine")
MOST_C2ST, MOST_OFFSET, MOST_EVIDENCE, MOST_SECONDS = 0.53, 0.06, 0.1, 60.0
_DRAWS, _PUBLISHED = 10_000, 2000


def posterior_of(task: str, fits: Path) -> sf.Posterior:
    """The fit of a task: from its file, or made and kept."""
    path = fits / f"{task}.safetensors"
    if path.exists():
        return sf.load(path)
    simulator = sf.load_simulator(task)
    if task == "ricker":
        found = sf.fit(simulator, minutes=4, seed=1)
    else:
        found = sf.fit(simulator, n_simulations=10_000, seed=1)
    make_folder(fits)
    found.save(path)
    return found


def cases(task: str, folder: Path, only: list[str], n: int) -> Iterator[tuple[str, F, dict[str, Any]]]:
    """Name, data, and what is known of the exact posterior: `draws`, and for ricker more."""
    if task == "ricker":
        for path in sorted((folder / "ricker").glob("*_T100_*.npz")):
            if not only or path.stem in only:
                with np.load(path) as arrays:
                    known = {name: arrays[name] for name in arrays.files}
                yield path.stem, known["x_obs"].astype(np.float64), known
        return
    published = folder / "benchmark"
    for number in only or [str(i) for i in range(1, 11)]:
        exact = reference(task, number, published=published if n <= _PUBLISHED else None, n=n)
        yield number, sf.load_simulator(task).data(number), {"draws": exact.draws[:n]}


def measured(posterior: sf.Posterior, task: str, name: str, y: F, known: dict[str, Any]) -> dict[str, Any]:
    """The record of one data set, without its score, and its draws under "values"."""
    n = len(known["draws"])
    began, process = time.monotonic(), time.process_time()
    draws = posterior.refine(y, sf.load_simulator(task), method="likelihood", n=n, seed=1)
    record = {
        "task": task,
        "observation": name,
        "n": n,
        "wall_seconds": time.monotonic() - began,
        "process_seconds": time.process_time() - process,
        "load": os.getloadavg()[0],
        "verdict": draws.verdict.level,
        "facts": {key: fact for key, fact in draws.facts.items() if not isinstance(fact, str)},
        "values": draws.to_numpy(),
    }
    if "post_mean" in known:
        summary, sd = draws.summary(), known["post_sd"]
        record["offset"] = float(np.abs((summary["mean"].to_numpy() - known["post_mean"]) / sd).max())
        record["sd_ratio"] = [float(x) for x in summary["sd"].to_numpy() / sd]
        record["evidence_difference"] = draws.facts["log_evidence"] - float(known["log_evidence"])
    return record


def line(record: dict[str, Any]) -> str:
    """One line on a data set."""
    facts = record["facts"]
    judged = f"R-hat {facts['rhat']:.3f}" if "rhat" in facts else f"k-hat {facts['k_hat']:.2f}"
    text = f"{record['task']} {record['observation']}: {record['verdict']}, {judged}, ess {facts['ess']:,.0f}"
    text += f" of {facts['evaluations']:,} evaluations, {record['wall_seconds']:.0f} s (load"
    text += f" {record['load']:.0f})"
    if "c2st" in record:
        passes = "pass" if record["c2st"] <= MOST_C2ST else "FAIL"
        text += f"; C2ST {record['c2st']:.3f} {passes}"
    if "c2st_neural" in record:
        text += f" (neural {record['c2st_neural']:.3f})"
    if "offset" in record:
        text += f"; means {record['offset']:.3f} sd, evidence {record['evidence_difference']:+.3f} nats"
    return text


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--fits", type=Path, default=Path("build/benchmarks/fits"))
    parser.add_argument("--references", type=Path, default=Path("../shared/reference"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--observations", type=lambda text: text.split(","), default=[])
    parser.add_argument("--draws", type=int, default=_DRAWS)
    parser.add_argument("--neural", action="store_true")
    parser.add_argument("--no-score", action="store_true")
    options = parser.parse_args()
    make_folder(options.results)
    for task in options.tasks:
        posterior = posterior_of(task, options.fits)
        for name, y, known in cases(task, options.references, options.observations, options.draws):
            record = measured(posterior, task, name, y, known)
            values = record.pop("values")
            if not options.no_score:
                record["c2st"] = c2st(known["draws"], values)
            if options.neural:
                neural = posterior.sample(y, len(values), seed=1).to_numpy()
                record["c2st_neural"] = c2st(known["draws"], neural)
            text = json.dumps(record, indent=1) + "\n"
            write_bytes(options.results / f"{task}.{name}.json", text.encode())
            print(line(record), flush=True)


if __name__ == "__main__":
    main()
