"""Sentences as rows of integers.

    "the dog barks"  ->  5 2 1 0 0 0

Words are numbered from 1 in alphabetical order, and a row has `most` columns. The 0 that follows the last
word is part of the sentence: it marks the end. Further zeros are padding and mean nothing. A sentence of
`most` words fills its row and needs no end mark.
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
    """The words that a model knows, sorted, and the largest number of words in a sentence."""

    words: tuple[str, ...]
    most: int

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]], most: int | None) -> Vocabulary:
        """The vocabulary of these sentences; most=None takes the length of the longest."""
        words = {word for sentence in sentences for word in sentence}
        return cls(tuple(sorted(words)), max(map(len, sentences)) if most is None else most)

    def tokens(self, sentences: Sequence[Sequence[str]], name: str) -> Tokens:
        """The sentences as rows (n, most). Raises `ObservationError` for unknown words and for sentences that
        are too long.
        """
        number = {word: i + 1 for i, word in enumerate(self.words)}
        rows = np.zeros((len(sentences), self.most), np.int64)
        for i, sentence in enumerate(sentences):
            if len(sentence) > self.most:
                raise ObservationError(
                    f"{name}: the sentence in row {i} has {len(sentence)} words, more than {self.most}, the "
                    f"most of this model. Leave it out, or make the model with most_words={len(sentence)}."
                )
            for word in sentence:
                if word not in number:
                    raise ObservationError(f"{name}: {self._unknown(word, i)}")
            rows[i, : len(sentence)] = [number[word] for word in sentence]
        return rows

    def _unknown(self, word: str, row: int) -> str:
        hint = (
            " If the list is meant as one sentence, pass the string itself." if len(word.split()) > 1 else ""
        )
        return (
            f"the word {word!r} in row {row} is not among the {len(self.words)} of the first training data. "
            f"Leave the sentence out, or train a new model on sentences that have the word.{hint}"
        )

    def sentences(self, tokens: Tokens) -> list[list[str]]:
        """The sentences of such rows."""
        return [[self.words[token - 1] for token in row if token] for row in tokens]


def sentences_of(given: Iterable[Sentence], name: str = "x") -> list[list[str]]:
    """A collection of sentences, each a string to be split at white space or a sequence of words, as lists of
    words.

    Raises `ShapeError` unless the collection is ordered and not empty, `ObservationError` for a sentence that
    is not one or has no words.
    """
    if isinstance(given, str | bytes | Set | Mapping) or not isinstance(given, Iterable):
        raise ShapeError(
            f"{name} must be an ordered collection of sentences, got {_short(given)}. Pass a single one as "
            "[sentence]."
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
            raise ObservationError(f"{name}: each word must be a non-empty string, got {_short(word)}.")
    if not words:
        raise ObservationError(f"{name} has no words, got {_short(sentence)}. Leave it out.")
    return [str(word) for word in words]


def _short(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."
