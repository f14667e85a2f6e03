"""Sentences of one to three letters, all of which can be listed, and small models of them."""

from __future__ import annotations

import itertools

import torch

from sbi_flows import vae
from sbi_flows.rng import stream

SMALL = vae.SentenceSettings(embedding=4, width=8, flow_width=8, layers=2)
WORDS = ("a", "b", "c")
ALL = [list(words) for length in (1, 2, 3) for words in itertools.product(WORDS, repeat=length)]


def toy(n: int = 150, seed: int = 0) -> list[list[str]]:
    """Sentences of 1 to 3 letters."""
    rng = stream(seed, "toy sentences")
    return [
        ["a"] * 3,
        ["b"],
        ["c"],
        *([str(word) for word in rng.choice(WORDS, rng.integers(1, 4))] for _ in range(n - 3)),
    ]


def made(**options: object) -> vae.SentenceVAE:
    return vae.SentenceVAE(**{"latent": 2, "seed": 1, "settings": SMALL, **options})  # type: ignore[arg-type]


def moved(model: vae.SentenceVAE, by: float = 0.3) -> vae.SentenceVAE:
    """The model with random changes to the writer, large enough that no probability is trivial."""
    with torch.no_grad():
        for i, parameter in enumerate(model.module.decoder.parameters()):
            parameter.add_(by * torch.from_numpy(stream(i, "moves").standard_normal(parameter.shape)))
    return model
