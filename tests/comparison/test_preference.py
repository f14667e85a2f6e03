"""Which method to believe: the best verdict, and of equal ones the fewest approximations."""

from __future__ import annotations

from sbi_flows.comparison.methods import ABC, ADJUSTED, EXACT, NEURAL, SMC
from sbi_flows.comparison.preference import preferred
from sbi_flows.verdict import Level, Verdict


def verdicts(**levels: Level) -> dict[str, Verdict]:
    names = {"exact": EXACT, "neural": NEURAL, "smc": SMC, "abc": ABC, "adjusted": ADJUSTED}
    return {names[name]: Verdict(level, ".") for name, level in levels.items()}


def test_the_exact_posterior_is_believed_where_it_can_be_trusted() -> None:
    found = preferred(verdicts(neural="trust", abc="trust", exact="trust"), {NEURAL: 0.52, ABC: 0.9})
    assert found.method == EXACT
    assert found.why.values == {"method": EXACT, "level": "trust", "alike": [NEURAL]}


def test_a_doubtful_exact_one_stands_behind_a_trusted_neural_one() -> None:
    found = preferred(verdicts(neural="trust", abc="trust", exact="caution"), {NEURAL: 0.7, ABC: 0.9})
    assert found.method == NEURAL
    assert found.why.values["alike"] == []


def test_where_all_are_refused_none_is_believed() -> None:
    found = preferred(verdicts(neural="do not trust", abc="do not trust"), {})
    assert found.why.values["level"] == "do not trust"
    assert found.why.startswith("Believe none")


def test_abc_is_believed_before_a_neural_posterior_that_is_refused() -> None:
    assert preferred(verdicts(neural="do not trust", smc="trust", adjusted="trust"), {}).method == SMC
