"""Sentences on a line between two others; and KL collapse: a decoder that sees every previous word learns to
ignore the latent numbers.
"""

import os
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from sbi_flows import vae

EPOCHS = int(os.environ.get("SBI_FLOWS_EXAMPLE_EPOCHS", 16))

NOUNS, ADJECTIVES = ["dog", "cat", "king", "girl", "bird", "robot"], ["old", "red", "happy", "small"]
DETERMINERS = [["the", "a", "every"], ["the", "some", "most"]]
VERBS, ADVERBS = ["sleep", "laugh", "wait", "run"], ["today", "alone", "again"]
PREPOSITIONS = ["near", "behind", "with"]


def sentence(rng: np.random.Generator) -> str:
    """Who does what, when or where: subject and verb agree in number."""

    def somebody(many: int) -> list[str]:
        adjective = [str(rng.choice(ADJECTIVES))] if rng.random() < 0.3 else []
        return [str(rng.choice(DETERMINERS[many])), *adjective, str(rng.choice(NOUNS)) + "s" * many]

    many, how = rng.integers(2), rng.integers(3)
    verb = str(rng.choice(VERBS)) + "s" * (1 - many)
    rest = [[], [str(rng.choice(ADVERBS))], [str(rng.choice(PREPOSITIONS)), *somebody(rng.integers(2))]][how]
    return " ".join([*somebody(many), verb, *rest])


def pattern() -> re.Pattern[str]:
    """The sentences of the grammar, as a regular expression."""
    choice = "|".join
    one, many = (
        f"(?:{choice(DETERMINERS[n])}) (?:(?:{choice(ADJECTIVES)}) )?(?:{choice(NOUNS)}){'s' * n}"
        for n in (0, 1)
    )
    verb = f"(?:{choice(VERBS)})"
    rest = f"(?: (?:{choice(ADVERBS)})| (?:{choice(PREPOSITIONS)}) (?:{one}|{many}))?"
    return re.compile(f"(?:{one} {verb}s|{many} {verb}){rest}")


if __name__ == "__main__":
    rng, grammar = np.random.default_rng(0), pattern()
    training, test = ([sentence(rng) for _ in range(n)] for n in (8000, 500))
    plain, cured = (vae.SentenceVAE(latent=8, seed=0) for _ in range(2))
    plain.fit(training, epochs=EPOCHS)
    cured.fit(training, epochs=EPOCHS, warmup=EPOCHS // 2, word_dropout=0.3, free_bits=0.25)
    for name, model in (("no cure", plain), ("warm-up, word dropout, free bits", cured)):
        kl, evidence = model.elbo(test).kl.mean(), model.log_evidence(test, 100).log_evidence.mean()
        used = model.active_units(test).sum()
        print(f"{name}: KL {kl:.2f} nats, {used} of 8 latent numbers used, log p(x) {evidence:.2f} nats")

    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained", width_ratios=(1.2, 1, 1))
    place = np.arange(1, 9)
    for shift, (name, model) in zip((-0.2, 0.2), (("no cure", plain), ("cured", cured)), strict=True):
        kl = np.sort(model.elbo(test).kl_parts.mean(axis=0))[::-1]
        axes[0].bar(place + shift, kl, 0.4, label=f"{name}: {kl.sum():.2f} in all")
    axes[0].set(xlabel="latent number, sorted", ylabel="KL (nats)", xticks=place)
    axes[0].margins(y=0.3)
    axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    right, between = 0, 0
    for axis, (a, b) in zip(axes[1:], ((0, 1), (2, 3)), strict=True):
        path = [" ".join(words) for words in cured.interpolate(test[a], test[b], 9)]
        right, between = right + sum(grammar.fullmatch(text) is not None for text in path[1:-1]), between + 7
        axis.set_title(f"from: {test[a]}\nto: {test[b]}", fontsize=8, loc="left")
        axis.axis("off")
        for i, text in enumerate(path):
            color = "black" if grammar.fullmatch(text) else "tab:red"
            axis.text(0.0, 0.95 - i * 0.115, text, fontsize=8, va="top", color=color)
    figure.savefig("sentences.png", dpi=150)
    print(f"{right} of {between} sentences on the way are grammatical (the others are red)")
    print(f"a sampled sentence: {' '.join(cured.sample(1)[0])!r}")
