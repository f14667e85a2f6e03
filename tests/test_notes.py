"""Notes: a kind with values, a sentence that is a string, and both kept by pickle and JSON."""

from __future__ import annotations

import json
import pickle

import pytest

from sbi_flows.notes import SENTENCES, Note, Notes

ENCODER = Note("encoder", features=6)


def test_a_note_is_its_sentence_with_kind_and_values() -> None:
    assert isinstance(ENCODER, str)
    assert (ENCODER.kind, ENCODER.values) == ("encoder", {"features": 6})
    assert "6" in ENCODER
    assert f"{ENCODER}" == ENCODER == str(ENCODER)


def test_pickle_keeps_kind_and_values() -> None:
    back = pickle.loads(pickle.dumps(ENCODER))
    assert (back, back.kind, back.values) == (ENCODER, ENCODER.kind, ENCODER.values)


def test_json_keeps_kind_values_and_the_sentence_of_its_time() -> None:
    record = json.loads(json.dumps(ENCODER.to_json()))
    back = Note.from_json(record)
    assert (back, back.kind, back.values) == (ENCODER, ENCODER.kind, ENCODER.values)
    older = Note.from_json({**record, "text": "as it was said then"})
    assert (older, older.kind) == ("as it was said then", "encoder")
    assert older.to_json() == {**record, "text": "as it was said then"}


def test_a_kind_that_is_no_longer_known_is_still_read() -> None:
    back = Note.from_json({"kind": "of another version", "values": {}, "text": "words"})
    assert (back, back.kind) == ("words", "of another version")


def test_a_plain_sentence_of_the_first_format_is_a_note() -> None:
    note = Note.from_json("scaling of y: 6 columns")
    assert (note, note.kind) == ("scaling of y: 6 columns", "text")


def test_values_are_a_copy() -> None:
    values = {"text": "words"}
    note = Note.from_json({"kind": "text", "values": values, "text": "words"})
    values["text"] = "others"
    assert note.values == {"text": "words"}


@pytest.mark.parametrize(
    ("kind", "values"), [("no such kind", {}), ("encoder", {}), ("size", {"size": "large"})]
)
def test_an_unknown_kind_or_a_missing_value_is_a_bug(kind: str, values: dict[str, str]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Note(kind, **values)


def test_every_plain_sentence_can_be_formatted() -> None:
    assert all(sentence.format_map(Any()) for sentence in SENTENCES.values() if isinstance(sentence, str))


class Any(dict[str, int]):
    """Has every value."""

    def __missing__(self, key: str) -> int:
        return 1


def test_notes_are_said_at_once_and_kept_in_order() -> None:
    said: list[str] = []
    notes = Notes(said.append)
    notes.note("encoder", features=2)
    notes.say("text", text="for now")
    notes.note("text", text="last")
    assert said == [notes[0], "for now", "last"]
    assert [note.kind for note in notes] == ["encoder", "text"]


def test_notes_may_be_kept_in_silence() -> None:
    notes = Notes()
    notes.note("text", text="words")
    assert notes == ["words"]
