"""Files: what was written comes back, any change of bytes is noticed, and a write happens whole or not at
all.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from sbi_flows import files
from sbi_flows.errors import CorruptFileError, FormatVersionError, SettingsError, StorageError
from sbi_flows.files import FORMAT_VERSION, fingerprint, read_file, write_bytes, write_file

ARRAYS = {"theta": np.arange(6.0).reshape(3, 2), "codes": np.array([0, 1, 2], dtype=np.uint8)}
MANIFEST = {
    "kind": "test",
    "seed": 3,
    "prior": [{"name": "a", "args": [0.1, -2.5]}],
    "note": 'σ, ✓ and "quotes"',
}


def write_sample(path: Path) -> bytes:
    write_file(path, ARRAYS, MANIFEST)
    return path.read_bytes()


def is_as_written(arrays: dict[str, Any], manifest: dict[str, Any]) -> bool:
    same = set(arrays) == set(ARRAYS) and all(
        arrays[name].tobytes() == ARRAYS[name].tobytes() for name in ARRAYS
    )
    return same and manifest == {"format_version": FORMAT_VERSION, **MANIFEST}


def refused_or_unchanged(data: bytes) -> bool:
    """Read `data` as a file: True if it is refused; False if it is read as what was first written; anything
    else fails.
    """
    with pytest.MonkeyPatch.context() as memory:
        memory.setattr(Path, "read_bytes", lambda path: data)
        try:
            arrays, manifest = read_file("in memory, for there are thousands", "test")
        except StorageError:
            return True
    assert is_as_written(arrays, manifest), "a changed file was read as something else"
    return False


def test_arrays_and_manifest_come_back(tmp_path: Path) -> None:
    write_sample(tmp_path / "a")
    assert is_as_written(*read_file(tmp_path / "a", "test"))


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.5),
        np.zeros((0, 3)),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(10)[::-3],
        np.arange(3, dtype=">f8"),
        np.arange(3, dtype=">i4"),
        np.array([True, False]),
        np.array([1.5], dtype=np.float16),
        np.array([np.nan, np.inf, -0.0]),
        np.arange(24, dtype=np.int64).reshape(2, 3, 4),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_every_shape_order_and_type_of_numbers_comes_back(array: np.ndarray, tmp_path: Path) -> None:
    write_file(tmp_path / "a", {"x": array}, {"kind": "test"})
    back = read_file(tmp_path / "a", "test")[0]["x"]
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


def test_a_file_may_hold_no_arrays(tmp_path: Path) -> None:
    write_file(tmp_path / "a", {}, {"kind": "test"})
    assert read_file(tmp_path / "a", "test") == ({}, {"format_version": FORMAT_VERSION, "kind": "test"})


def test_any_flipped_bit_is_refused_or_without_effect(tmp_path: Path) -> None:
    """All bits of the numbers, three of every byte before them."""
    data, rng = write_sample(tmp_path / "a"), np.random.default_rng(1)
    header = len(data) - sum(array.nbytes for array in ARRAYS.values())
    flips = [
        (place, bit)
        for place in range(len(data))
        for bit in (rng.choice(8, 3, replace=False) if place < header else range(8))
    ]
    harmless = []
    for place, bit in flips:
        changed = bytearray(data)
        changed[place] ^= 1 << int(bit)
        if not refused_or_unchanged(bytes(changed)):
            harmless.append(place)
    assert all(place < header for place in harmless), "a flipped bit in the numbers went unnoticed"
    assert len(harmless) < 0.01 * len(flips)


def test_any_changed_byte_is_refused_or_without_effect(tmp_path: Path) -> None:
    data = write_sample(tmp_path / "a")
    rng = np.random.default_rng(0)
    for place, value in zip(rng.integers(len(data), size=800), rng.integers(256, size=800), strict=True):
        changed = bytearray(data)
        changed[place] = value
        refused_or_unchanged(bytes(changed))


def test_every_truncation_and_every_appended_tail_is_refused(tmp_path: Path) -> None:
    data = write_sample(tmp_path / "a")
    assert all(refused_or_unchanged(data[:length]) for length in range(len(data)))
    assert all(refused_or_unchanged(data + tail) for tail in (b"\0", b"more", data))


def test_a_changed_shape_is_refused(tmp_path: Path) -> None:
    """The same bytes, read as rows of another length."""
    data = write_sample(tmp_path / "a")
    reshaped = data.replace(b'"shape":[3,2]', b'"shape":[2,3]')
    assert reshaped != data
    (tmp_path / "a").write_bytes(reshaped)
    with pytest.raises(CorruptFileError, match="one bit"):
        read_file(tmp_path / "a", "test")


def test_swapped_arrays_are_refused(tmp_path: Path) -> None:
    """Equal types, shapes and total bytes: only the digest over the names can tell."""
    write_file(tmp_path / "a", {"x1": np.zeros(2), "x2": np.ones(2)}, {"kind": "test"})
    data = (tmp_path / "a").read_bytes()
    swapped = data.replace(b'"x1"', b'"x#"').replace(b'"x2"', b'"x1"').replace(b'"x#"', b'"x2"')
    assert swapped != data
    (tmp_path / "a").write_bytes(swapped)
    with pytest.raises(CorruptFileError, match="one bit"):
        read_file(tmp_path / "a", "test")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1,2,3\n",
        b"\x80\x04\x95" + b"pickle?" * 20,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        safetensors.numpy.save({"x": np.zeros(2)}),
        safetensors.numpy.save({"x": np.zeros(2)}, metadata={"sbi_flows": "[]"}),
        safetensors.numpy.save({"x": np.zeros(2)}, metadata={"sbi_flows": '{"manifest": 1, "sha256": "x"}'}),
        safetensors.numpy.save(
            {"x": np.zeros(2)}, metadata={"sbi_flows": '{"manifest": {}, "sha256": null}'}
        ),
    ],
    ids=[
        "empty",
        "text",
        "pickle",
        "huge header",
        "no metadata",
        "null",
        "deep",
        "others",
        "list",
        "no manifest",
        "no digest",
    ],
)
def test_a_file_that_is_not_ours_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(CorruptFileError, match=str(tmp_path / "a")) as caught:
        read_file(tmp_path / "a", "test")
    assert caught.value.exit_code == 2


def test_another_kind_of_file_is_refused_with_both_kinds_named(tmp_path: Path) -> None:
    write_sample(tmp_path / "a")
    with pytest.raises(CorruptFileError, match="'test'.*'posterior'"):
        read_file(tmp_path / "a", "posterior")


def test_a_newer_format_is_refused_with_both_versions_named(tmp_path: Path) -> None:
    write_file(tmp_path / "a", ARRAYS, {**MANIFEST, "format_version": FORMAT_VERSION + 1})
    with pytest.raises(FormatVersionError, match=f"{FORMAT_VERSION + 1}.* {FORMAT_VERSION}"):
        read_file(tmp_path / "a", "test")


def test_a_missing_file_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="posterior") as caught:
        read_file(tmp_path / "a", "posterior")
    assert caught.value.exit_code == 2


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="directory"):
        read_file(tmp_path, "test")
    with pytest.raises(StorageError, match="folder"):
        write_file(tmp_path, ARRAYS, MANIFEST)


@pytest.mark.parametrize("place", ["missing/a", "file/a"])
def test_a_place_that_cannot_be_written_is_a_storage_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=place):
        write_file(tmp_path / place, ARRAYS, MANIFEST)
    assert os.listdir(tmp_path) == ["file"]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["replace", "fsync"])
@pytest.mark.parametrize(("fault", "seen"), [(refuse, StorageError), (interrupt, KeyboardInterrupt)])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    step: str, fault: Any, seen: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_sample(tmp_path / "a")
    monkeypatch.setattr(files.os, step, fault)
    with pytest.raises(seen):
        write_file(tmp_path / "a", {"x": np.zeros(3)}, MANIFEST)
    assert (tmp_path / "a").read_bytes() == old
    assert os.listdir(tmp_path) == ["a"]


def test_writing_again_replaces_the_file_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old and long")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_the_bytes_do_not_depend_on_the_order_of_names(tmp_path: Path) -> None:
    data = write_sample(tmp_path / "a")
    write_file(tmp_path / "b", dict(reversed(ARRAYS.items())), dict(reversed(MANIFEST.items())))
    assert (tmp_path / "b").read_bytes() == data


def test_another_process_with_another_hash_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    data = write_sample(tmp_path / "a")
    script = (
        "import sys, json, numpy as np; from sbi_flows.files import write_file;write_file(sys.argv[1], "
        "{'codes': np.array([0, 1, 2], dtype=np.uint8), 'theta': np.arange(6.0).reshape(3, 2)}, "
        "json.loads(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "b"), json.dumps(MANIFEST)], check=True, env=environment
    )
    assert (tmp_path / "b").read_bytes() == data


def test_infinite_numbers_cannot_slip_into_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_file(tmp_path / "a", ARRAYS, {"kind": "test", "x": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_fingerprint_follows_the_value_and_not_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": [1.5, 2]}) == fingerprint({"b": [1.5, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1.5, 2]}) != fingerprint({"a": 1, "b": [2, 1.5]})


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="pipe"):
        write_file(tmp_path / "pipe", ARRAYS, MANIFEST)
    assert not (tmp_path / "pipe").is_file()


@pytest.mark.parametrize("place", [None, 3, b"p"])
def test_what_is_not_a_path_is_refused(place: object) -> None:
    with pytest.raises(SettingsError, match="path"):
        write_file(place, ARRAYS, MANIFEST)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["1", None, [2], True])
def test_a_format_version_that_is_not_a_number_is_refused(version: object, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_file(path, {"a": np.zeros(1)}, {"kind": "toy", "format_version": version})
    with pytest.raises(CorruptFileError, match="format version"):
        read_file(path, "toy")
