"""The Ricker model as a program for sf.command_simulator(["python3", "ricker.py"], prior): any Python, the
standard library alone.

    reads   {"seed": 1, "theta": {"log_r": 3.8, "sigma": 0.3, "rho": 10.0}}        one request per line
    writes  {"y": [12, 0, 1, ...]}                                                one answer per line

Only answers go to stdout; use print(..., file=sys.stderr) for anything else. Use this for a model that needs
an environment of its own.
"""

import json
import math
import random
import sys


def poisson(mean: float, rng: random.Random) -> int:
    """The number of arrivals by time `mean`, where the waits between them are exponential."""
    count, time = 0, rng.expovariate(1.0)
    while time <= mean:
        count, time = count + 1, time + rng.expovariate(1.0)
    return count


def ricker(log_r: float, sigma: float, rho: float, rng: random.Random, steps: int = 100) -> list[int]:
    """N_{t+1} = r N_t exp(-N_t + sigma e_t), N_0 = 1, with counts Poisson(rho N_t) for t = 1, ..., steps."""
    n, counts = 1.0, []
    for _ in range(steps):
        n *= math.exp(log_r - n + sigma * rng.gauss(0.0, 1.0))
        counts.append(poisson(rho * n, rng))
    return counts


for line in sys.stdin:
    request = json.loads(line)
    y = ricker(**request["theta"], rng=random.Random(request["seed"]))
    print(json.dumps({"y": y}), flush=True)
