"""How often the tests detect planted faults, and how often they fail a posterior that has none.

    python -m tests.benchmarks.faults [--mutants 100] [--exact 1000] [-m 1000]

For every exact posterior of `tests/diagnostics/known.py`: the share of seeded repeats in which each mutant is
detected (verdict not "trust") at a false-alarm rate of 1e-4, and the tests that detect it most often; on the
exact posterior, how often any test is significant at the stated rates 5%, 1% and 1e-4, and the verdict is not
"trust".
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from sbi_flows.diagnostics.pairs import draw_pairs
from sbi_flows.diagnostics.tests import FALSE_ALARM, Measurements, apply_tests, measure, overall
from tests.benchmarks.sections import parser_of
from tests.diagnostics.known import MUTANTS, PROBLEMS, Known, Tested, exact

RATES = (0.05, 0.01, FALSE_ALARM)


def measured(known: Known, tested: Tested, m: int, seed: int) -> Measurements:
    """One repeat with m pairs."""
    rng = np.random.default_rng(seed)
    theta, y = known.joint(m, rng)
    sampler, log_prob = tested
    pairs = draw_pairs(sampler, theta, y, names=("theta_1", "theta_2"), rng=rng, log_prob=log_prob)
    return measure(pairs, rng, log_prob=log_prob, log_prior=known.log_prior(theta))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--mutants", type=int, default=100, help="repeats of each mutant")
    parser.add_argument("--exact", type=int, default=1000, help="repeats of each exact posterior")
    parser.add_argument("-m", type=int, default=1000, help="pairs in each repeat")
    options = parser.parse_args()
    for name, make in PROBLEMS.items():
        known = make()
        for fault, mutate in MUTANTS.items():
            tested = mutate(known)
            if tested is None:
                continue
            failed: Counter[str] = Counter()
            detected = 0
            for seed in range(options.mutants):
                outcomes = apply_tests(measured(known, tested, options.m, seed))
                detected += not overall(outcomes).ok
                failed.update(one.test for one in outcomes if one.level != "trust")
            by = ", ".join(f"{test} {count}" for test, count in failed.most_common(3))
            print(f"{name:18} {fault:22} detected {detected}/{options.mutants}   ({by})", flush=True)
        alarms = dict.fromkeys(RATES, 0)
        untrusted = 0
        for seed in range(options.exact):
            found = measured(known, exact(known), options.m, 10_000 + seed)
            for rate in RATES:
                alarms[rate] += any(one.significant for one in apply_tests(found, rate))
            untrusted += not overall(apply_tests(found)).ok
        shares = ", ".join(f"{alarms[rate] / options.exact:.4f} at {rate:g}" for rate in RATES)
        print(
            f"{name:18} {'exact':22} significant {shares}; not trusted {untrusted}/{options.exact}",
            flush=True,
        )


if __name__ == "__main__":
    main()
