"""Damaged banks: simulate repairs or refuses them, read_bank refuses them or is right, and no row is ever
silently wrong.

SBI_FLOWS_MUTATIONS is how many banks are damaged.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import sbi_flows as sf
from sbi_flows.errors import SbiFlowsError
from sbi_flows.files import read_file, write_file
from tests.faults.conftest import MUTATIONS, rows
from tests.faults.models import PRIOR, numbers

SETTINGS = sf.SimulateSettings(block_size=10)
N = 40
MODEL = sf.simulator(PRIOR)(numbers)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("whole")
    sf.simulate(MODEL, N, seed=5, store=store / "bank", settings=SETTINGS)
    sf.simulate(MODEL, N, seed=6, store=store / "other", settings=SETTINGS)
    sf.simulate(MODEL, N, seed=5, store=store / "coarse", settings=sf.SimulateSettings(block_size=20))
    return store


def shard(store: Path, k: int) -> Path:
    return store / "0000" / f"{k:08d}.safetensors"


def truncate(store: Path, path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def flip(store: Path, path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 5, 100])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def swap(store: Path, path: Path, rng: random.Random) -> None:
    other = shard(store, rng.randrange(4))
    mine, theirs = path.read_bytes(), other.read_bytes() if other.is_file() else b""
    path.write_bytes(theirs)
    if not other.is_dir():
        other.write_bytes(mine)


def delete(store: Path, path: Path, rng: random.Random) -> None:
    path.unlink()


def duplicate(store: Path, path: Path, rng: random.Random) -> None:
    names = [
        "00000007.safetensors",
        "1.safetensors",
        "00000001 copy.safetensors",
        "000000001.safetensors",
        "0000000\u00b2.safetensors",
    ]
    place = store / rng.choice(["0000", "0001", "0", "00000"])
    if not place.is_symlink():
        place.mkdir(exist_ok=True)
    target = place / rng.choice([*names, path.name, f"{path.name}.damaged", f".{path.name}.0a.part"])
    if place.is_dir() and not target.is_dir():
        target.write_bytes(path.read_bytes())


def garbage(store: Path, path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.choice([1, 7, 8, 9, 100, 5000])))


def empty(store: Path, path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def foreign(store: Path, path: Path, rng: random.Random) -> None:
    arrays, manifest = read_file(shard(store.parent / "source", 0), "simulation block")
    if rng.random() < 0.3:
        shutil.copy(shard(store.parent / rng.choice(["elsewhere", "thinner"]), rng.randrange(2)), path)
    elif rng.random() < 0.3:
        write_file(path, arrays, {**manifest, "kind": "posterior"})
    elif rng.random() < 0.3:
        manifest.pop(rng.choice(["block", "campaign", "kinds", "failures"]))
        write_file(path, arrays, manifest)
    elif rng.random() < 0.5:
        arrays.pop(rng.choice(["theta", "y", "codes"]))
        write_file(path, arrays, manifest)
    else:
        write_file(path, {"weights": arrays["y"]}, {"kind": "network"})


def future(store: Path, path: Path, rng: random.Random) -> None:
    arrays, manifest = read_file(shard(store.parent / "source", 0), "simulation block")
    write_file(path, arrays, {**manifest, "format_version": rng.choice([2, 99])})


def manifest(store: Path, path: Path, rng: random.Random) -> None:
    text = store / "bank.json"
    data = json.loads(text.read_text()) if text.is_file() else {}
    campaign = data.get("campaign", {}) if isinstance(data, dict) else {}
    match rng.randrange(6):
        case 0:
            text.unlink(missing_ok=True)
        case 1:
            text.write_bytes(rng.randbytes(50))
        case 2:
            text.write_text(
                rng.choice(["", "{}", "[]", "3", "null", '{"campaign": 3}', '{"campaign": {}}', "[" * 5000])
            )
        case 3 if campaign:
            campaign.pop(rng.choice(sorted(campaign)))
            text.write_text(json.dumps(data))
        case 4 if campaign:
            campaign[rng.choice(sorted(campaign))] = rng.choice(
                [None, -1, 0, 2, "x", [], {}, [[]], 1.5, True]
            )
            text.write_text(json.dumps(data))
        case _:
            text.unlink(missing_ok=True)
            text.mkdir()
    if rng.random() < 0.4:
        shutil.rmtree(store / "0000")


def folder(store: Path, path: Path, rng: random.Random) -> None:
    path.unlink()
    if rng.random() < 0.5:
        path.mkdir()
    else:
        shutil.rmtree(store / "0000")
        (store / "0000").write_text("a file")


def link(store: Path, path: Path, rng: random.Random) -> None:
    match rng.randrange(4):
        case 0:
            path.unlink()
            path.symlink_to(path)
        case 1:
            path.unlink()
            path.symlink_to("/nowhere/at/all")
        case 2:
            (store / "0001").unlink(missing_ok=True) if (store / "0001").is_symlink() else None
            if not (store / "0001").exists():
                (store / "0001").symlink_to(rng.choice([store / "0001", store, store / "0000"]))
        case _:
            (store / "bank.json").unlink(missing_ok=True) if not (store / "bank.json").is_dir() else None
            if not (store / "bank.json").exists():
                (store / "bank.json").symlink_to("bank.json")


def litter(store: Path, path: Path, rng: random.Random) -> None:
    for name in rng.sample(
        [
            "0000/.00000001.safetensors.0a.part",
            ".bank.json.ff.part",
            "notes.txt",
            ".writer.lock.9.part",
            "0000/x",
        ],
        2,
    ):
        if (store / name).parent.is_dir():
            (store / name).write_bytes(rng.randbytes(20))


WAYS = [
    truncate,
    flip,
    swap,
    delete,
    duplicate,
    garbage,
    empty,
    foreign,
    future,
    manifest,
    folder,
    link,
    litter,
]


def damage(store: Path, rng: random.Random) -> list[str]:
    """One to three of the ways, at random, as far as the one before leaves room for the next."""
    done = []
    for way in rng.choices(WAYS, k=rng.choice([1, 1, 2, 3])):
        path = shard(store, rng.randrange(4))
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            with suppress(OSError, ValueError):
                way(store, path, rng)
            done.append(way.__name__)
    return done


def outcome(call: Callable[[], sf.Simulations], reference: sf.Simulations, whole: bool) -> str:
    """What a call came to: right, a right beginning, or a typed error. Anything else fails."""
    try:
        sims = call()
        found = rows(sims)
    except SbiFlowsError as refusal:
        return type(refusal).__name__
    assert found == rows(reference, None if whole else len(sims))
    return "right" if len(sims) == N else "a right beginning"


def examine(store: Path, reference: sf.Simulations) -> tuple[str, str]:
    """What reading a damaged bank and simulating into it came to."""
    read = outcome(lambda: sf.read_bank(store), reference, False)
    made = outcome(lambda: sf.simulate(MODEL, N, seed=5, store=store, settings=SETTINGS), reference, True)
    if made == "right":
        assert outcome(lambda: sf.read_bank(store), reference, True) == "right"
        assert not (store / "writer.lock").exists()
    return f"read: {read}", f"simulate: {made}"


def clear(store: Path) -> None:
    for place in store.rglob("*"):
        if place.is_symlink():
            place.unlink()
    shutil.rmtree(store)


@pytest.mark.filterwarnings("ignore::sbi_flows.errors.SimulationWarning")
def test_no_row_is_silently_wrong_whatever_is_done_to_the_files(whole: Path, tmp_path: Path) -> None:
    reference, came = sf.read_bank(whole / "bank"), Counter[str]()
    for name, source in (("source", "bank"), ("elsewhere", "other"), ("thinner", "coarse")):
        shutil.copytree(whole / source, tmp_path / name)
    store = tmp_path / "bank"
    for i in range(MUTATIONS):
        shutil.copytree(whole / "bank", store)
        done = damage(store, random.Random(i))
        try:
            came.update(examine(store, reference))
        except Exception as error:
            error.add_note(f"after {', '.join(done)} (number {i})")
            raise
        clear(store)
    print(f"{MUTATIONS} damaged banks: {dict(sorted(came.items()))}")
    assert came["simulate: right"] > MUTATIONS // 3
