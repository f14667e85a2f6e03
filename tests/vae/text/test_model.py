"""A sentence autoencoder: probabilities that sum to one, sentences scored to their end, draws with these
probabilities.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from sbi_flows import vae
from sbi_flows.rng import stream

from .letters import ALL, WORDS, made, moved, toy


@pytest.fixture(scope="module", params=["diagonal", "iaf"])
def fitted(request: pytest.FixtureRequest) -> vae.SentenceVAE:
    model = made(encoder=request.param)
    model.fit(toy(), epochs=2, warmup=1, word_dropout=0.3)
    return moved(model)


def test_the_probabilities_of_all_sentences_sum_to_one(fitted: vae.SentenceVAE) -> None:
    for z in ([[0.0, 0.0]], [[2.0, -1.0]]):
        assert np.exp(fitted.log_likelihood(ALL, z)).sum() == pytest.approx(1, abs=1e-12)


def test_the_estimated_evidence_of_all_sentences_sums_to_one(fitted: vae.SentenceVAE) -> None:
    """Importance weights are unbiased: the sum is 1 within 4.5 errors, with one false alarm in 100,000."""
    model = copy.deepcopy(fitted)
    with torch.no_grad():
        for parameter in model.module.encoder.flow.layers[0].parameters():
            parameter.mul_(0.3)  # near the prior, so that the weights have a variance
    found = model.log_evidence(ALL, 4000)
    error = np.sqrt(np.square(np.exp(found.log_evidence) * found.standard_error).sum())
    assert abs(np.exp(found.log_evidence).sum() - 1) < 4.5 * error
    assert error < 0.03
    assert (model.elbo(ALL).bound < found.log_evidence + 5 * found.standard_error).all()


def test_a_sentence_is_scored_word_by_word_to_its_end_and_no_further(fitted: vae.SentenceVAE) -> None:
    """The chain rule written out, one step of the recurrent unit at a time."""
    writer, z = fitted.module.decoder, torch.tensor([[0.7, -0.4]]).double()
    for sentence in (["b"], ["a", "c"], ["c", "c", "a"]):
        numbers = [WORDS.index(word) + 1 for word in sentence] + ([0] if len(sentence) < 3 else [])
        total, state, last = 0.0, torch.tanh(writer.start(z))[None], 0
        for t, number in enumerate(numbers):
            step = torch.cat([writer.embedding(torch.tensor([last])), z], dim=1)[:, None]
            states, state = writer.unit(step, state)
            scores = writer.head(states)[0, 0].detach()
            total += float(scores[number] - torch.logsumexp(scores[int(t == 0) :], dim=0))
            last = number
        assert fitted.log_likelihood([sentence], z.numpy())[0] == pytest.approx(total, abs=1e-12)


def test_neither_the_rest_of_a_batch_nor_padding_matters(fitted: vae.SentenceVAE) -> None:
    short, long = [["b"], ["c", "a"]], [["a", "a", "b"]]
    z = np.array([[0.3, -0.2]])
    for by in (fitted.latent_mean, lambda x: fitted.log_likelihood(x, z), lambda x: fitted.elbo(x).bound):
        assert np.allclose(by(short), by(short + long)[:2], rtol=0, atol=1e-12)
    longer = made(most_words=7)
    longer.fit(toy(), epochs=1)
    assert longer.vocabulary.most == 7
    x = torch.tensor([[2, 1, 0, 0, 0, 0, 0]])
    assert torch.allclose(
        longer.module.encoder.context(x), longer.module.encoder.context(x[:, :2]), rtol=0, atol=1e-12
    )


def test_draws_have_the_probabilities_of_log_likelihood(fitted: vae.SentenceVAE) -> None:
    """Chi-squared over all sentences, those expected fewer than 5 times pooled: one false alarm in 10,000."""
    z, n = np.array([[0.5, 0.5]]), 20_000
    counts = dict.fromkeys(map(tuple, ALL), 0)
    for sentence in fitted.draw(np.repeat(z, n, axis=0), seed=4):
        counts[tuple(sentence)] += 1
    expected = n * np.exp(fitted.log_likelihood(ALL, z))
    seen = np.array(list(counts.values()))
    rare = expected < 5
    cells = [
        *zip(seen[~rare], expected[~rare], strict=True),
        (seen[rare].sum(), max(expected[rare].sum(), 1e-9)),
    ]
    statistic = sum((o - e) ** 2 / e for o, e in cells if e >= 5)
    assert statistic < chi2.ppf(1 - 1e-4, sum(e >= 5 for _, e in cells) - 1)


def test_decoding_takes_the_most_probable_word_at_each_step(fitted: vae.SentenceVAE) -> None:
    z = stream(0, "z").standard_normal((5, 2))
    for row, sentence in zip(z, fitted.decode(z), strict=True):
        written: list[str] = []
        for _ in range(3):
            begun = {word: [s for s in ALL if s[: len(written) + 1] == [*written, word]] for word in WORDS}
            p = {
                word: np.exp(fitted.log_likelihood(with_it, row[None])).sum()
                for word, with_it in begun.items()
            }
            if written:
                p[""] = np.exp(fitted.log_likelihood([written], row[None]))[0]
            best = max(p, key=lambda word: p[word])
            if not best:
                break
            written.append(best)
        assert sentence == written


@pytest.mark.seeds_torch
def test_with_all_words_hidden_the_writer_ignores_previous_words() -> None:
    model = made()
    model.fit(toy(), epochs=1)
    writer = moved(model).module.decoder
    x, z = torch.tensor([[1, 3, 2], [2, 3, 2], [1, 2, 0], [2, 2, 0]]), torch.zeros(4, 1, 2).double()
    writer.dropout = 1.0
    with torch.no_grad():
        seeing = writer.log_prob(x, z)[:, 0]
        blind = writer.train().log_prob(x, z)[:, 0]
    writer.eval()
    assert float(blind[0] - blind[1]) == pytest.approx(float(blind[2] - blind[3]), abs=1e-12)
    assert abs(float(seeing[0] - seeing[1]) - float(seeing[2] - seeing[3])) > 1e-3


def test_strings_and_lists_and_arrays_are_the_same_sentences(fitted: vae.SentenceVAE) -> None:
    x = [["a", "c"], ["b"]]
    wanted = fitted.elbo(x).bound
    for given in (["a c", " b "], (("a", "c"), ("b",)), [np.array(["a", "c"]), "b"], np.array(["a c", "b"])):
        assert np.array_equal(fitted.elbo(given).bound, wanted)
    assert fitted.interpolate("a c", ["b"], 2) == fitted.reconstruct(x)


def test_shapes_of_results(fitted: vae.SentenceVAE) -> None:
    x = toy(5, 2)
    assert fitted.encode(x, 3).shape == (5, 3, 2)
    assert fitted.latent_mean(x).shape == (5, 2)
    assert fitted.log_weights(x, 6).shape == (5, 6)
    assert fitted.active_units(x).shape == (2,)
    assert len(fitted.sample(7)) == 7
    assert (
        len(fitted.interpolate(x[0], x[1], 4))
        == len(fitted.interpolate(x[0], x[1], 4, path="spherical"))
        == 4
    )
    assert all(1 <= len(sentence) <= 3 for sentence in fitted.sample(200))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    found = []
    for seed in (1, 1, 2):
        model = made(seed=seed)
        model.fit(toy(), epochs=2, word_dropout=0.5)
        found.append(
            (model.elbo(toy(4, 2)).bound.tobytes(), model.sample(5), model.encode(toy(4, 2)).tobytes())
        )
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]
