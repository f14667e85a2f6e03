"""Finding a simulator: by name, by module, by file; what is broken is named and hides nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import sbi_flows as sf
from sbi_flows.errors import PluginError
from sbi_flows.problem import plugins
from simulators.ricker import great_tits, ricker

MODEL = """
import numpy as np
import scipy.stats
import sbi_flows as sf

@sf.simulator(sf.Prior(rate=scipy.stats.uniform(0, 5)))
def my_model(theta, rng):
    return rng.poisson(theta["rate"])

class Models:
    inner = my_model

def plain(theta, rng):
    return theta["rate"]
"""


def model_file(folder: Path, text: str = MODEL, name: str = "my_file.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def register(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Register `values` in addition to what is installed."""
    points = [EntryPoint(name, value, plugins.GROUP) for name, value in values.items()]
    installed = list(plugins.entry_points(group=plugins.GROUP))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [*points, *installed])


def test_the_installed_plugins_are_listed_with_their_simulators() -> None:
    found = {plugin.name: plugin for plugin in plugins.list_plugins()}
    benchmark = {
        "two_moons",
        "slcp",
        "gaussian_linear",
        "gaussian_linear_uniform",
        "gaussian_mixture",
        "sir",
        "lotka_volterra",
    }
    hidden_or_raw = {"slcp_distractors", "bernoulli_glm", "bernoulli_glm_raw"}
    assert {"ricker", "great_tits", "gaussian"} | benchmark | hidden_or_raw <= set(found)
    assert found["ricker"].simulator is ricker
    assert found["ricker"].target == "simulators.ricker:ricker"
    assert all(plugin.error is None for plugin in found.values())
    assert list(found) == sorted(found)


def test_a_simulator_is_found_by_name_by_module_and_by_file(tmp_path: Path) -> None:
    assert sf.load_simulator("great_tits") is great_tits
    assert sf.load_simulator("simulators.ricker:great_tits") is great_tits
    assert sf.load_simulator(f"{model_file(tmp_path)}:my_model").name == "my_model"


def test_an_attribute_of_an_attribute_is_found(tmp_path: Path) -> None:
    assert sf.load_simulator(f"{model_file(tmp_path)}:Models.inner").name == "my_model"


def test_a_file_is_found_by_a_path_with_a_colon_and_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a:b").mkdir()
    model_file(tmp_path / "a:b")
    monkeypatch.chdir(tmp_path)
    assert sf.load_simulator("a:b/my_file.py:my_model").name == "my_model"


def test_an_unknown_name_lists_what_is_installed_and_the_other_ways() -> None:
    with pytest.raises(PluginError, match=r"'rikcer'.*gaussian.*ricker.* package.module:attribute") as caught:
        sf.load_simulator("rikcer")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("no_such_module:model", "importing no_such_module failed: ModuleNotFoundError"),
        (":model", "failed"),
        (".relative:model", "failed"),
        ("simulators.ricker:", "'' in .*ricker.py is nothing"),
        (
            "simulators.ricker:rikcer",
            "'rikcer' in .*ricker.py is nothing, not a simulator; simulators there: great_tits, ricker",
        ),
        ("simulators.ricker:GREAT_TITS", "is a tuple, not a simulator"),
        ("simulators.ricker:simulate_ricker", "is a function, not a simulator.*Decorate the function"),
        ("missing.py:model", "missing.py"),
    ],
)
def test_a_reference_that_leads_nowhere_says_where_it_ended(reference: str, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        sf.load_simulator(reference)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def __getattr__(name): raise ImportError('lazily')", "ImportError: lazily"),
    ],
)
def test_a_file_that_does_not_run_gives_the_cause_and_no_module_behind(
    text: str, words: str, tmp_path: Path
) -> None:
    before = set(sys.modules)
    with pytest.raises(PluginError, match=words):
        sf.load_simulator(f"{model_file(tmp_path, text, 'broken_file.py')}:model")
    assert "__getattr__" in text or set(sys.modules) == before


def test_an_undecorated_function_in_a_file_names_the_simulators_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'plain'.*my_file.py.*function.*my_model"):
        sf.load_simulator(f"{model_file(tmp_path)}:plain")


BROKEN = {
    "missing_module": "no_such_package.module:model",
    "missing_attribute": "simulators.ricker:rikcer",
    "wrong_type": "simulators.ricker:GREAT_TITS",
    "no_attribute": "simulators.ricker",
    "not_a_reference": "what is this?",
    "raises": "broken_on_purpose:model",
    "exits": "exits_on_purpose:model",
}


def test_broken_plugins_carry_their_reason_and_hide_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_on_purpose.py").write_text("raise ValueError('broken on purpose')")
    (tmp_path / "exits_on_purpose.py").write_text("import sys; sys.exit('bye')")
    monkeypatch.syspath_prepend(tmp_path)
    register(monkeypatch, **BROKEN)
    found = {plugin.name: plugin for plugin in plugins.list_plugins()}
    assert found["ricker"].simulator is ricker
    assert {name for name, plugin in found.items() if plugin.simulator is None} == set(BROKEN)
    assert all(f"plug-in {name!r} ({BROKEN[name]})" in str(found[name].error) for name in BROKEN)
    assert "ValueError: broken on purpose" in str(found["raises"].error)
    assert "SystemExit: bye" in str(found["exits"].error)


@pytest.mark.parametrize("name", BROKEN)
def test_loading_a_broken_plugin_by_name_raises_its_reason(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, **BROKEN)
    with pytest.raises(PluginError, match=f"plug-in '{name}'"):
        sf.load_simulator(name)


def test_without_any_plugin_the_message_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    assert plugins.list_plugins() == []
    with pytest.raises(PluginError, match="none"):
        sf.load_simulator("ricker")


def install_package(folder: Path) -> None:
    """A package with a simulator plug-in, as pip leaves it."""
    package, record = folder / "popular", folder / "popular-1.0.dist-info"
    package.mkdir(parents=True)
    record.mkdir()
    (package / "__init__.py").touch()
    (package / "model.py").write_text(MODEL)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: popular\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text(f"[{plugins.GROUP}]\npopular = popular.model:my_model\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path with a package that registers the plug-in `popular`; no module of it stays
    behind.
    """
    install_package(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "popular"]:
        del sys.modules[name]


def test_the_plugin_of_an_installed_package_is_found_by_name(installed: Path) -> None:
    assert sf.load_simulator("popular").name == "my_model"


def test_a_folder_that_shadows_an_installed_package_is_named(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow = installed / "work" / "popular"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").touch()
    monkeypatch.syspath_prepend(shadow.parent)
    found = {plugin.name: plugin for plugin in plugins.list_plugins()}
    assert found["ricker"].simulator is ricker
    assert f"finds the top-level name 'popular' at {shadow}" in str(found["popular"].error)
    assert "shadows it: rename that folder" in str(found["popular"].error)


def test_a_file_that_shadows_an_installed_package_is_named(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "popular.py").write_text("x = 1")
    monkeypatch.syspath_prepend(installed)
    with pytest.raises(PluginError, match="'popular' is not a package.*shadows") as caught:
        sf.load_simulator("popular")
    assert str(installed / "popular.py") in str(caught.value)


def test_a_prior_is_named_by_its_file_or_by_a_simulator(tmp_path: Path) -> None:
    file = model_file(tmp_path, MODEL + "\nprior = my_model.prior\n")
    for name in ("prior", "my_model", "Models.inner"):
        assert plugins.load_prior(f"{file}:{name}").names == ("rate",)
    assert plugins.load_prior("simulators.ricker:ricker") == plugins.load_prior("ricker") == ricker.prior
    with pytest.raises(PluginError, match="'plain' is a function, not a prior; priors there: prior"):
        plugins.load_prior(f"{file}:plain")
