"""What a user is told while a model is made: which network, why, what was left out. A note is data; its
sentence comes from one table.

A `Note` is a string, so that it prints and compares as its sentence, and it carries the kind and the values
that the sentence was made
from: programs and tests read those, and the English can change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Say = Callable[[str], None]

SENTENCES: dict[str, str | Callable[..., str]] = {"text": "{text}"}


class Note(str):
    """The sentence of `SENTENCES[kind]` about `values`, which are JSON.

    Raises `KeyError` for a kind that is not in the table or a value that its sentence lacks: a mistake in
    this package.
    """

    kind: str
    values: Mapping[str, Any]

    def __new__(cls, kind: str, /, **values: Any) -> Note:
        """Write the sentence."""
        sentence = SENTENCES[kind]
        return cls._with(
            kind, values, sentence.format(**values) if isinstance(sentence, str) else sentence(**values)
        )

    @classmethod
    def _with(cls, kind: str, values: Mapping[str, Any], text: str) -> Note:
        note = super().__new__(cls, text)
        note.kind, note.values = kind, dict(values)
        return note

    def __reduce__(self) -> tuple[Any, ...]:
        return Note._with, (self.kind, self.values, str(self))

    def to_json(self) -> dict[str, Any]:
        """Kind, values and the sentence, as JSON."""
        return {"kind": self.kind, "values": dict(self.values), "text": str(self)}

    @classmethod
    def from_json(cls, record: dict[str, Any] | str) -> Note:
        """What `to_json` gave, with the sentence of its time; files of the first version hold sentences
        alone.
        """
        if isinstance(record, str):
            return cls("text", text=record)
        return cls._with(record["kind"], record["values"], record["text"])


class Notes(list[Note]):
    """Notes in the order in which they were made, each of them said at once."""

    def __init__(self, say: Say | None = None) -> None:
        super().__init__()
        self._say = say or (lambda text: None)

    def note(self, kind: str, /, **values: Any) -> None:
        """Keep a note, and say it."""
        self.append(Note(kind, **values))
        self._say(self[-1])

    def say(self, kind: str, /, **values: Any) -> None:
        """Say a sentence that is of no interest later."""
        self._say(Note(kind, **values))
