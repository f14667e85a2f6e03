"""What a sentence autoencoder refuses, and that a refused or interrupted fit changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from sbi_flows.errors import (
    ObservationError,
    SbiFlowsError,
    SettingsError,
    ShapeError,
    TooFewSimulationsError,
)

from .letters import made, toy


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("a b", ShapeError, r"'a b'.*\[sentence\]"),
        ({"a", "b"}, ShapeError, "ordered"),
        (3, ShapeError, "3"),
        ([], ShapeError, "at least one"),
        (["a", ""], ObservationError, "row 1"),
        (["a", []], ObservationError, "row 1"),
        (["a", 3], ObservationError, "row 1 .* 3"),
        ([["a", 3]], ObservationError, "row 0.* 3"),
        ([["a", ""]], ObservationError, "row 0.* ''"),
        (["a b z"], ObservationError, "'z' in row 0"),
        ([["a b"]], ObservationError, "string itself"),
        (["a", "a b c a"], ObservationError, "row 1 .* most_words=4"),
    ],
)
def test_x_must_be_sentences_of_known_words(given: object, error: type[SbiFlowsError], words: str) -> None:
    model = made()
    model.fit(toy(), epochs=1)
    for use in (model.elbo, model.encode, model.log_evidence, model.reconstruct, model.active_units):
        with pytest.raises(error, match=words):
            use(given)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"latent": 0}, "latent"),
        ({"most_words": 0}, "most_words"),
        ({"encoder": "full"}, "full_rank"),
        ({"settings": {"hidden": 3}}, "SentenceSettings"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        made(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"word_dropout": 1.5}, "word_dropout .* 1.5"),
        ({"word_dropout": "a"}, "word_dropout"),
        ({"epochs": 2, "warmup": 2}, "warm-up of 2"),
        ({"free_bits": -1}, "free_bits"),
        ({"train_settings": 3}, "train_settings"),
    ],
)
def test_bad_options_of_a_fit_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        made().fit(toy(), **options)  # type: ignore[arg-type]


def test_the_words_come_from_a_fit() -> None:
    for use in (
        lambda model: model.sample(3),
        lambda model: model.elbo(["a"]),
        lambda model: model.decode([[0.0, 0.0]]),
    ):
        with pytest.raises(SettingsError, match=r"fit\(sentences\)"):
            use(made())


def test_a_fit_that_is_refused_or_interrupted_leaves_the_model_as_it_was() -> None:
    def stop(step: int, steps: int, text: str) -> None:
        raise KeyboardInterrupt

    model = made()
    with pytest.raises(ObservationError, match="x_valid.*'z'"):
        model.fit(toy(), ["z"])
    with pytest.raises(KeyboardInterrupt):
        model.fit(toy(), epochs=1, progress=stop)
    with pytest.raises(SettingsError, match=r"fit\(sentences\)"):
        model.sample(1)
    model.fit(toy(), epochs=1)
    before = model.elbo(toy(5)).bound
    with pytest.raises(KeyboardInterrupt):
        model.fit(toy(), epochs=1, progress=stop)
    assert np.array_equal(model.elbo(toy(5)).bound, before)
    with pytest.raises(TooFewSimulationsError, match="10 rows"):
        made().fit(["a"] * 10)
