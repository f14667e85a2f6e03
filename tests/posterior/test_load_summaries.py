"""A posterior that saw declared summaries is loaded with them: passed again, or found in an installed
plug-in, and never by a path in the file.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sbi_flows as sf
from sbi_flows.errors import FormatVersionError, SettingsError, SummariesError
from sbi_flows.files import read_file, write_file
from simulators.ricker import make_ricker, ricker_summaries

from ..conftest import QUICK
from ..hard import made, statistics

FORMAT, BEFORE = 8, 6


@pytest.fixture(scope="module")
def fitted() -> sf.Posterior:
    return sf.fit(made(), n_simulations=800, seed=1, settings=QUICK, say=None)


@pytest.fixture
def path(fitted: sf.Posterior, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


@pytest.mark.parametrize("again", [{"simulator": made()}, {"summaries": statistics}])
def test_with_the_simulator_or_its_summaries_it_is_the_same_posterior(
    fitted: sf.Posterior, path: Path, again: dict[str, Any]
) -> None:
    loaded = sf.load(path, **again)
    y = sf.simulate(made(), 3, seed=5).y
    one, other = fitted.sample(y, 100), loaded.sample(y, 100)
    assert np.array_equal(one.to_numpy(), other.to_numpy())
    assert one.verdicts == other.verdicts
    assert loaded.declared_summaries == 2
    loaded.save(path.with_name("again"))
    assert path.with_name("again").read_bytes() == path.read_bytes()


def test_without_them_it_is_said_what_to_pass(path: Path) -> None:
    with pytest.raises(SummariesError, match=r"2 summaries .* 'hard' .* sf.load\(path, simulator=hard\)"):
        sf.load(path)
    with pytest.raises(SummariesError, match="holds no code"):
        sf.load(path, simulator=made(None))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y: statistics(y) + np.array([0.1, 0]), "summary 1 of a stored simulation"),
        (lambda y: statistics(y)[:, :1], "1 numbers"),
        (lambda y: statistics(y)[:, ::-1], "Pass those of the simulator"),
        (lambda y: y["a"], "raised IndexError"),
        (lambda y: y.mean(), "do not fit this posterior"),
    ],
)
def test_another_function_is_refused(path: Path, function: Any, words: str) -> None:
    with pytest.raises(SummariesError, match=words):
        sf.load(path, summaries=function)
    with pytest.raises(SummariesError, match=words):
        sf.load(path, simulator=made(function))


def test_the_simulator_and_its_summaries_are_not_passed_both(path: Path) -> None:
    with pytest.raises(SettingsError, match="not both"):
        sf.load(path, simulator=made(), summaries=statistics)


def test_an_installed_plugin_of_the_name_is_found_and_checked(tmp_path: Path) -> None:
    short = make_ricker(steps=30)
    posterior = sf.fit(short, n_simulations=500, seed=1, settings=QUICK, say=None)
    posterior.save(tmp_path / "ricker")
    assert sf.load(tmp_path / "ricker").declared_summaries == posterior.declared_summaries > 0
    mine = sf.simulator(short.prior, event_shape=(30,), summaries=lambda y: ricker_summaries(y)[:, ::-1])(
        short.function
    )
    mine.name = "ricker"
    sf.fit(mine, n_simulations=500, seed=1, settings=QUICK, say=None).save(tmp_path / "mine")
    with pytest.raises(SummariesError, match="not those that this posterior was trained with"):
        sf.load(tmp_path / "mine")
    assert sf.load(tmp_path / "mine", simulator=mine).declared_summaries


def test_a_file_leads_to_no_module_by_its_path(path: Path, tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    arrays, manifest = read_file(path, "posterior", newest=FORMAT)
    for name in (f"{tmp_path}/trap.py:model", "this:model", "trap:model"):
        write_file(path, arrays, {**manifest, "facts": {**manifest["facts"], "simulator": name}})
        with pytest.raises(SummariesError, match="holds no code"):
            sf.load(path)
    assert "this" not in sys.modules


def test_files_without_summaries_switch_or_splines_are_of_the_format_before(
    path: Path, bounded: sf.Simulator, tmp_path: Path
) -> None:
    assert read_file(path, "posterior", newest=FORMAT)[1]["format_version"] == FORMAT
    with pytest.raises(FormatVersionError, match="Update sbi_flows"):
        read_file(path, "posterior", newest=BEFORE)
    maf = replace(QUICK, flow="maf", members=1)
    sf.fit(bounded, n_simulations=500, settings=maf, say=None).save(tmp_path / "plain")
    arrays, manifest = read_file(tmp_path / "plain", "posterior", newest=BEFORE)
    assert "declared_summaries" not in manifest["settings"]
    assert not [name for name in arrays if name.startswith("declared")]
    settings = replace(QUICK, declared_summaries=False)
    off = sf.fit(made(), n_simulations=500, settings=settings, say=None)
    off.save(tmp_path / "off")
    loaded = sf.load(tmp_path / "off")
    assert loaded.settings == off.settings
    assert not loaded.settings.declared_summaries
    assert read_file(tmp_path / "off", "posterior", newest=FORMAT)[1]["format_version"] == FORMAT
