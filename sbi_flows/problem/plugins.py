"""How a simulator is found: by plug-in name, `package.module:attribute`, or `path/to/file.py:attribute`.

Plug-ins register under the entry-point group `sbi_flows.simulators`. One broken plug-in never hides the
others.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from sbi_flows.errors import PluginError
from sbi_flows.problem.prior import Prior
from sbi_flows.problem.simulator import FILE_PREFIX, Simulator

GROUP = "sbi_flows.simulators"


@dataclass(frozen=True)
class Plugin:
    """One registered plug-in: its simulator, or the error that loading it gave."""

    name: str
    target: str
    simulator: Simulator | None
    error: str | None


def list_plugins() -> list[Plugin]:
    """All registered plug-ins by name; those that fail to load carry the reason instead of a simulator."""
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        try:
            found.append(Plugin(point.name, point.value, _from_entry_point(point), None))
        except PluginError as error:
            found.append(Plugin(point.name, point.value, None, str(error)))
    return found


def load_simulator(reference: str) -> Simulator:
    """The simulator that `reference` names. Raises `PluginError`."""
    module, separator, attribute = reference.rpartition(":")
    if not separator:
        points = {point.name: point for point in entry_points(group=GROUP)}
        if reference in points:
            return _from_entry_point(points[reference])
        raise PluginError(
            f"there is no simulator plug-in called {reference!r}. Installed: {_listed(points)}. Or name one "
            "as package.module:attribute or path/to/file.py:attribute."
        )
    loaded = _load_file(Path(module)) if module.endswith(".py") else _load_module(module, reference)
    return _attribute(loaded, attribute, reference)


def load_prior(reference: str) -> Prior:
    """The prior that `reference` names, or that of the simulator that it names. Raises `PluginError`."""
    module, separator, attribute = reference.rpartition(":")
    if not separator:
        return load_simulator(reference).prior
    loaded = _load_file(Path(module)) if module.endswith(".py") else _load_module(module, reference)
    value = _value(loaded, attribute, reference)
    if isinstance(value, Simulator):
        return value.prior
    if isinstance(value, Prior):
        return value
    there = [key for key, item in vars(loaded).items() if isinstance(item, Prior)]
    got = "nothing" if value is None else f"a {type(value).__name__}"
    raise PluginError(
        f"{reference}: {attribute!r} is {got}, not a prior; priors there: {_listed(there)}. Make one with "
        "prior = sf.Prior(rate=scipy.stats.uniform(0, 5))."
    )


def find_plugin(name: str) -> Simulator | None:
    """The plug-in registered under `name`, and never a module or file of that name; None if there is none.

    Raises `PluginError` for one that cannot be loaded.
    """
    point = next((point for point in entry_points(group=GROUP) if point.name == name), None)
    return None if point is None else _from_entry_point(point)


def _from_entry_point(point: EntryPoint) -> Simulator:
    reference = f"plug-in {point.name!r} ({point.value})"
    try:
        module, attribute = point.module, point.attr
    except (AttributeError, ValueError):
        module = attribute = ""
    if not attribute:
        raise PluginError(
            f"{reference}: the entry point is not of the form package.module:attribute. The package that "
            "registers it is at fault."
        )
    return _attribute(_load_module(module, reference), attribute, reference)


def _load_module(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        why = f"importing {name} failed: {_last_line(error)}.{_shadow(name)}"
        raise PluginError(f"{reference}: {why}") from error


def _shadow(name: str) -> str:
    """A hint where Python found another package of the same top-level name."""
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    if module is None or top == name:
        return ""
    places = list(map(str, getattr(module, "__path__", []))) or [str(getattr(module, "__file__", "?"))]
    return (
        f" Python finds the top-level name {top!r} at {', '.join(places)}; if that is not the package that "
        "registered the plug-in, it shadows it: rename that folder or file, or run from another folder."
    )


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"{path}: there is no such file. Name a simulator as path/to/file.py:attribute.")
    name = f"{FILE_PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise PluginError(f"{path}: cannot be imported as a Python file.")
    module = importlib.util.module_from_spec(spec)
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # as if the file were run: it may import its neighbours, here and in workers
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"{path}: running the file failed: {_last_line(error)}.") from error
    return module


def _attribute(module: ModuleType, attribute: str, reference: str) -> Simulator:
    value = _value(module, attribute, reference)
    if isinstance(value, Simulator):
        return value
    there = [key for key, item in vars(module).items() if isinstance(item, Simulator)]
    place = getattr(module, "__file__", None) or "a namespace package"
    got = "nothing" if value is None else f"a {type(value).__name__}"
    raise PluginError(
        f"{reference}: {attribute!r} in {place} is {got}, not a simulator; simulators there: "
        f"{_listed(there)}. Decorate the function with @sf.simulator(prior)." + _shadow(module.__name__)
    )


def _value(module: ModuleType, attribute: str, reference: str) -> object:
    """What the module holds under that name; None if there is nothing."""
    value: object = module
    try:
        for part in attribute.split("."):
            value = getattr(value, part, None)
    except Exception as error:
        raise PluginError(f"{reference}: looking up {attribute!r} failed: {_last_line(error)}.") from error
    return value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()
