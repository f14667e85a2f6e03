"""A small English grammar whose sentences have known probabilities. Subject and verb agree in number; all
else is independent.

    S -> singular | plural              N_n -> Det_n Noun_n | Det_n Adj Noun_n
    n -> N_n V_n | N_n V_n Adv | N_n T_n N_m | N_n V_n Prep N_m

No rule is recursive and each sentence has one derivation. So log p(x) is the sum of the log probabilities of
its rules, and the entropy is that of the first rule plus the mean entropy of what it expands to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

Rule = tuple[float, tuple[str, ...]]

_NOUNS = ("dog", "cat", "king", "girl", "bird", "robot")
_ALONE = ("sleep", "laugh", "wait", "run")
_WITH = ("see", "like", "follow", "paint")


def _one_of(*words: str) -> list[Rule]:
    return [(1 / len(words), (word,)) for word in words]


def _rules() -> dict[str, list[Rule]]:
    rules: dict[str, list[Rule]] = {
        "S": [(0.5, ("one",)), (0.5, ("many",))],
        "object": [(0.5, ("N one",)), (0.5, ("N many",))],
        "Det one": _one_of("the", "a", "every"),
        "Det many": _one_of("the", "some", "most"),
        "Adj": _one_of("old", "red", "happy", "small"),
        "Adv": _one_of("today", "alone", "again"),
        "Prep": _one_of("near", "behind", "with"),
        "Noun one": _one_of(*_NOUNS),
        "Noun many": _one_of(*(f"{noun}s" for noun in _NOUNS)),
        "V one": _one_of(*(f"{verb}s" for verb in _ALONE)),
        "V many": _one_of(*_ALONE),
        "T one": _one_of(*(f"{verb}s" for verb in _WITH)),
        "T many": _one_of(*_WITH),
    }
    for n in ("one", "many"):
        rules[f"N {n}"] = [(0.7, (f"Det {n}", f"Noun {n}")), (0.3, (f"Det {n}", "Adj", f"Noun {n}"))]
        rules[n] = [
            (0.3, (f"N {n}", f"V {n}")),
            (0.292, (f"N {n}", f"V {n}", "Adv")),
            (0.308, (f"N {n}", f"T {n}", "object")),
            (0.1, (f"N {n}", f"V {n}", "Prep", "object")),
        ]
    return rules


RULES = _rules()


@cache
def entropy(symbol: str = "S") -> float:
    """The entropy of the sentences that a symbol expands to, in nats."""
    if symbol not in RULES:
        return 0.0
    return sum(p * (-np.log(p) + sum(entropy(part) for part in parts)) for p, parts in RULES[symbol])


def sentences(n: int, rng: np.random.Generator) -> list[list[str]]:
    """n sentences."""
    return [_drawn("S", rng) for _ in range(n)]


def log_prob(sentence: Sequence[str]) -> float:
    """log p of a sentence in nats, -inf if the grammar cannot produce it."""
    found = [log_p for log_p, end in _readings("S", tuple(sentence), 0) if end == len(sentence)]
    return found[0] if found else -np.inf


def _drawn(symbol: str, rng: np.random.Generator) -> list[str]:
    if symbol not in RULES:
        return [symbol]
    rules = RULES[symbol]
    _, parts = rules[rng.choice(len(rules), p=[p for p, _ in rules])]
    return [word for part in parts for word in _drawn(part, rng)]


def _readings(symbol: str, sentence: tuple[str, ...], start: int) -> Iterator[tuple[float, int]]:
    """Each derivation of a part of the sentence from a symbol, from `start` on: log p, and where it ends."""
    if symbol not in RULES:
        if start < len(sentence) and sentence[start] == symbol:
            yield 0.0, start + 1
        return
    for p, parts in RULES[symbol]:
        ends = [(float(np.log(p)), start)]
        for part in parts:
            ends = [
                (log_p + more, after) for log_p, end in ends for more, after in _readings(part, sentence, end)
            ]
        yield from ends
