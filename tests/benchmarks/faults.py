"""How often the judges call planted faults, and how often they call what has none.

    python -m tests.benchmarks.faults [--mutants 100] [--exact 1000] [-m 1000]

For every exact posterior of `tests/diagnostics/known.py`: the share of seeded repeats in which each mutant is
called (verdict not "trust") at a false-alarm rate of 1e-4, by which judge most often; and on the exact
posterior how often any judge is significant at the stated rates 5%, 1% and 1e-4, and the verdict is not
"trust".
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from sbi_flows.diagnostics.judges import FALSE_ALARM, Findings, examine, judge, overall
from sbi_flows.diagnostics.pairs import draw_pairs
from tests.benchmarks.sections import parser_of
from tests.diagnostics.known import MUTANTS, PROBLEMS, Judged, Known, exact

RATES = (0.05, 0.01, FALSE_ALARM)


def findings_of(known: Known, judged: Judged, m: int, seed: int) -> Findings:
    """One repeat: m pairs, all judges."""
    rng = np.random.default_rng(seed)
    theta, y = known.joint(m, rng)
    sampler, log_prob = judged
    pairs = draw_pairs(sampler, theta, y, names=("theta_1", "theta_2"), rng=rng, log_prob=log_prob)
    return examine(pairs, rng, log_prob=log_prob, log_prior=known.log_prior(theta))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--mutants", type=int, default=100, help="repeats of each mutant")
    parser.add_argument("--exact", type=int, default=1000, help="repeats of each exact posterior")
    parser.add_argument("-m", type=int, default=1000, help="pairs in each repeat")
    options = parser.parse_args()
    for name, make in PROBLEMS.items():
        known = make()
        for fault, mutate in MUTANTS.items():
            judged = mutate(known)
            if judged is None:
                continue
            callers: Counter[str] = Counter()
            called = 0
            for seed in range(options.mutants):
                judgements = judge(findings_of(known, judged, options.m, seed))
                called += not overall(judgements).ok
                callers.update(j.judge for j in judgements if j.level != "trust")
            who = ", ".join(f"{judge_name} {count}" for judge_name, count in callers.most_common(3))
            print(f"{name:18} {fault:22} called {called}/{options.mutants}   ({who})", flush=True)
        alarms = dict.fromkeys(RATES, 0)
        untrusted = 0
        for seed in range(options.exact):
            findings = findings_of(known, exact(known), options.m, 10_000 + seed)
            for rate in RATES:
                alarms[rate] += any(j.significant for j in judge(findings, rate))
            untrusted += not overall(judge(findings)).ok
        shares = ", ".join(f"{alarms[rate] / options.exact:.4f} at {rate:g}" for rate in RATES)
        print(
            f"{name:18} {'exact':22} significant {shares}; not trusted {untrusted}/{options.exact}",
            flush=True,
        )


if __name__ == "__main__":
    main()
