"""Rounds on the public benchmark: `python -m tests.benchmarks.rounds TASK [--observations 1,2]`. Not run by
pytest.

An amortised fit on --first simulations, then `posterior.refine(y, method="rounds")` with the rest of --budget
for each observation: C2ST of 10,000 draws against 10,000 reference draws (tests.benchmarks.references), and
what each round did. The fit serves all observations and counts once for each. One JSON record a task in
--results, written after each observation; the same call resumes. --bars are the best published sequential
figures at 10,000 simulations (means of ten observations).

    --set          slcp alone: y declared as a set of four points
    --members, --epochs, --flow      of the networks, those of the first fit too; without them the defaults
    --rounds                         how many; without it the default
    --draws                          for a quicker, and a little more lenient, C2ST on fewer draws
    --references DIR                 published draws, where there are any; else references are made
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import sbi_flows as sf
from sbi_flows.diagnostics.distances import c2st
from sbi_flows.files import make_folder, write_bytes
from tests.benchmarks.cells import OBSERVATIONS
from tests.benchmarks.references import DRAWS, reference
from tests.benchmarks.sections import parser_of

RESULTS = Path("tests/benchmarks/results/rounds")
BARS = {
    **{"two_moons": 0.554, "slcp": 0.713, "bernoulli_glm": 0.553, "sir": 0.561},
    **{"gaussian_mixture": 0.551, "gaussian_linear": 0.536, "lotka_volterra": 0.738},
}


def as_set(simulator: sf.Simulator) -> sf.Simulator:
    """slcp, with its four points as the members of a set."""

    def slcp_set(theta: Any, rng: np.random.Generator) -> Any:
        return np.asarray(simulator.function(theta, rng)).reshape(-1, 4, 2)

    observed = {number: np.asarray(y).reshape(4, 2) for number, y in simulator.observed.items()}
    return sf.Simulator(slcp_set, simulator.prior, event_shape=(4, 2), data=sf.Set(), observed=observed)


def amortised(simulator: sf.Simulator, name: str, options: argparse.Namespace) -> sf.Posterior:
    """The first fit, kept beside the records' folder in build/."""
    folder = Path("build/benchmarks/rounds")
    path = folder / f"{name}.{options.first}.seed{options.seed}.safetensors"
    if path.exists():
        return sf.load(path)
    simulations = sf.simulate(simulator, options.first, seed=options.seed, workers=1)
    posterior = sf.fit(
        simulator, simulations=simulations, seed=options.seed, settings=networks(options), say=None
    )
    make_folder(folder)
    posterior.save(path)
    return posterior


def networks(options: argparse.Namespace) -> sf.FitSettings | None:
    """Those that were asked for, of the first fit and of the rounds."""
    if not (options.members or options.epochs or options.flow):
        return None
    train = None if options.epochs is None else sf.TrainSettings(epochs=options.epochs, weight_decay=0.2)
    return sf.FitSettings(members=options.members, train=train, flow=options.flow or "auto")


def settings_of(simulator: sf.Simulator, options: argparse.Namespace) -> sf.RefineSettings:
    """Those that were asked for, with the simulations of the first fit."""
    given: dict[str, Any] = {} if options.rounds is None else {"rounds": options.rounds}
    first = sf.simulate(simulator, options.first, seed=options.seed, workers=1)
    return sf.RefineSettings(simulations=first, fit=networks(options), **given)


def scored(task: str, number: str, draws: sf.Draws, published: Path | None) -> float:
    """C2ST of the draws."""
    exact = reference(task, number, published=published).draws
    n = min(len(exact), len(draws))
    return c2st(exact[:n], draws.to_numpy()[:n])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("task")
    parser.add_argument("--observations", type=lambda text: text.split(","), default=OBSERVATIONS)
    parser.add_argument("--first", type=int, default=2_000)
    parser.add_argument("--budget", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=DRAWS)
    for name in ("rounds", "members", "epochs"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--flow", type=lambda text: text.split(","))
    parser.add_argument("--set", action="store_true")
    parser.add_argument("--label", default="")
    parser.add_argument("--references", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    simulator = sf.load_simulator(options.task)
    name = f"{options.task}_set" if options.set else options.task
    simulator = as_set(simulator) if options.set else simulator
    began = time.monotonic()
    posterior = amortised(simulator, name, options)
    print(f"{name}: amortised on {options.first:,} in {time.monotonic() - began:.0f} s", flush=True)
    settings = settings_of(simulator, options)
    make_folder(options.results)
    label = f".{options.label}" if options.label else ""
    path = options.results / f"{name}.{options.budget}{label}.seed{options.seed}.json"
    record = json.loads(path.read_text()) if path.exists() else {"task": name, "c2st": {}, "facts": {}}
    record |= {
        "first": options.first,
        "budget": options.budget,
        "bar": BARS.get(options.task),
        "draws": options.draws,
    }
    record["networks"] = {"members": options.members, "epochs": options.epochs, "flow": options.flow}
    for number in options.observations:
        if number in record["c2st"]:
            continue
        draws = posterior.refine(
            simulator.data(number),
            simulator,
            method="rounds",
            n=options.draws,
            n_simulations=options.budget - options.first,
            seed=options.seed,
            settings=settings,
            say=lambda text: print("   ", text, flush=True),
            workers=1,
        )
        record["c2st"][number] = scored(options.task, number, draws, options.references)
        record["facts"][number] = {
            k: draws.facts[k] for k in ("rounds", "simulations_in_all", "apart", "seconds")
        }
        write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
        mean = np.mean(list(record["c2st"].values()))
        print(
            f"{name} {number}: C2ST {record['c2st'][number]:.3f} in {draws.facts['seconds']:.0f} s; mean "
            f"{mean:.3f} over {len(record['c2st'])}, bar {record['bar']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
