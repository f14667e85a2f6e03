"""Sentences as rows of whole numbers.

    "the dog barks"  ->  5 2 1 0 0 0        words are numbered from 1 in alphabetical order; 0 is the end, and
    everything after it

A row has `most` columns. The 0 that follows the last word is part of the sentence: it says that the sentence
ends there. The others are padding and mean nothing. A sentence of `most` words fills its row, and its end
goes without saying.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sbi_flows.errors import ObservationError, ShapeError

Sentence = str | Sequence[str]
Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, sorted, and how many a sentence has at most."""

    words: tuple[str, ...]
    most: int

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]], most: int | None) -> Vocabulary:
        """That of these sentences; most=None takes the longest of them."""
        longest = max(len(sentence) for sentence in sentences)
        return cls(
            tuple(sorted({word for sentence in sentences for word in sentence})),
            longest if most is None else most,
        )

    def tokens(self, sentences: Sequence[Sequence[str]], name: str) -> Tokens:
        """The sentences as rows (n, most). Raises `ObservationError` for a word that is not known and a
        sentence that is too long.
        """
        number = {word: i + 1 for i, word in enumerate(self.words)}
        rows = np.zeros((len(sentences), self.most), np.int64)
        for i, sentence in enumerate(sentences):
            if len(sentence) > self.most:
                raise ObservationError(
                    f"{name}: the sentence in row {i} has {len(sentence)} words, and this model knows "
                    f"sentences of at most {self.most}. "
                    f"Leave it out, or make the model with most_words={len(sentence)}."
                )
            for j, word in enumerate(sentence):
                if word not in number:
                    listed = (
                        " A list is one sentence, word by word; a sentence in one string goes without it."
                        if len(word.split()) > 1
                        else ""
                    )
                    raise ObservationError(
                        f"{name}: the word {word!r} in row {i} is not among the {len(self.words)} that this "
                        f"model was first trained on. "
                        f"Leave the sentence out, or train a new model on sentences that have the "
                        f"word.{listed}"
                    )
                rows[i, j] = number[word]
        return rows

    def sentences(self, tokens: Tokens) -> list[list[str]]:
        """The sentences of such rows."""
        return [[self.words[token - 1] for token in row if token] for row in tokens]


def sentences_of(given: Iterable[Sentence], name: str = "x") -> list[list[str]]:
    """A collection of sentences, each a string, cut at white space, or a sequence of words, as lists of
    words.

    Raises `ShapeError` for what is no ordered collection or is empty, and `ObservationError` for what is no
    sentence or has no words.
    """
    if isinstance(given, str | bytes | Set | Mapping) or not isinstance(given, Iterable):
        raise ShapeError(
            f"{name} must be a list of sentences, in an order, got {_short(given)}. Pass a single one as "
            f"[sentence]."
        )
    found = [_words(sentence, f"{name}, row {i}") for i, sentence in enumerate(given)]
    if not found:
        raise ShapeError(f"{name} has no sentences. Pass at least one.")
    return found


def _words(sentence: object, name: str) -> list[str]:
    if isinstance(sentence, str):
        words: list[object] = list(sentence.split())
    elif isinstance(sentence, Sequence | np.ndarray) and not isinstance(sentence, bytes):
        words = list(sentence)
    else:
        raise ObservationError(f"{name} must be a string or a sequence of words, got {_short(sentence)}.")
    for word in words:
        if not isinstance(word, str) or not word:
            raise ObservationError(f"{name}: a word must be a string that is not empty, got {_short(word)}.")
    if not words:
        raise ObservationError(f"{name} is a sentence without words, got {_short(sentence)}. Leave it out.")
    return [str(word) for word in words]


def _short(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."
