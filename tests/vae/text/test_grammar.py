"""The grammar of the benchmark, and a model that learns it."""

from __future__ import annotations

import numpy as np
import pytest

from sbi_flows import vae
from sbi_flows.rng import stream

from . import grammar


def test_the_entropy_of_the_grammar_is_the_mean_surprisal_of_its_draws() -> None:
    """|z| < 4.5: one false alarm in 100,000."""
    log_p = np.array(
        [grammar.log_prob(sentence) for sentence in grammar.sentences(2000, stream(0, "grammar"))]
    )
    assert abs(log_p.mean() + grammar.entropy()) < 4.5 * log_p.std() / np.sqrt(len(log_p))
    assert grammar.log_prob(["the", "dog", "sleeps"]) == pytest.approx(np.log(0.5 * 0.3 * 0.7 / 3 / 6 / 4))
    for wrong in (
        "the dogs sleeps",
        "the dog sleep",
        "a dogs sleep",
        "the dog",
        "the dog sees",
        "the dog sleeps sleeps",
    ):
        assert grammar.log_prob(wrong.split()) == -np.inf


@pytest.mark.slow
def test_a_short_training_learns_the_grammar_and_uses_z() -> None:
    """Looser thresholds than the benchmark, which trains six times as long; no untrained model meets them."""
    model = vae.SentenceVAE(latent=8, seed=0)
    model.fit(
        grammar.sentences(5000, stream(0, "grammar")), epochs=6, warmup=3, word_dropout=0.3, free_bits=0.25
    )
    test = grammar.sentences(200, stream(1, "grammar"))
    assert model.elbo(test).kl.mean() > 0.5
    assert (
        abs(
            -model.log_evidence(test, 100).log_evidence.mean()
            - np.mean([-grammar.log_prob(sentence) for sentence in test])
        )
        < 1.0
    )
    assert np.mean([np.isfinite(grammar.log_prob(sentence)) for sentence in model.decode(np.eye(8))]) > 0.7
