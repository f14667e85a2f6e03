"""What a verb reads. The package's own errors get a note with what helps at a prompt: a line, an option, a
likely slip.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sbi_flows as sf
from sbi_flows.cli.observed_files import NamedFile, advice, observation
from sbi_flows.cli.paths import file_on_the_way
from sbi_flows.cli.reading import Reading
from sbi_flows.errors import (
    ObservationError,
    PluginError,
    PriorError,
    SettingsError,
    ShapeError,
    StorageError,
    SummariesError,
    TooFewSimulationsError,
)
from sbi_flows.problem import plugins
from sbi_flows.problem.events import Events
from sbi_flows.simulation.bank import Bank
from sbi_flows.simulation.from_arrays import GIVEN

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Observed:
    """Files of observed data, none where they are optional, and how they are read."""

    observed: tuple[NamedFile, ...]
    decimal: str
    index: tuple[str, ...]

    def read(self, events: Events) -> Any:
        """`observation` of the files."""
        return observation(self.observed, events, Reading(self.decimal, self.index))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files alone."""
        return tuple(file.path for file in self.observed)

    @property
    def record(self) -> Any:
        """What is printed with --json: the file, a list of several, or nothing."""
        given = [str(file) for file in self.observed]
        return given if len(given) > 1 else given[0] if given else None

    @contextmanager
    def advice(self) -> Iterator[None]:
        """Where data have gaps or lengths that were not trained for, name the options of `fit`."""
        try:
            yield
        except (ObservationError, ShapeError) as error:
            advice(error, self.observed)
            raise


@dataclass(frozen=True)
class Tables(Observed):
    """Also the files of pairs made elsewhere. Raises `SettingsError` for one without the other."""

    theta: Path | None
    data: Path | None

    def __post_init__(self) -> None:
        check_both(self.theta, self.data)

    def pairs(self, prior: sf.Prior) -> sf.Simulations | None:
        """The pairs, if there are any."""
        if self.theta is None or self.data is None:
            return None
        return load_pairs(prior, self.theta, self.data, Reading(self.decimal, self.index))

    @property
    def files(self) -> tuple[Path | None, ...]:
        """All that is read."""
        return (*self.paths, self.theta, self.data)


def check_both(theta: Path | None, data: Path | None) -> None:
    """Raise `SettingsError` for parameters without data, or the other way round."""
    if (theta is None) != (data is None):
        raise SettingsError("--theta and --data belong together: give both, with one row per simulation.")


def load_simulator(reference: str) -> sf.Simulator:
    """The simulator that `reference` names. Raises `PluginError`."""
    return _named(reference, sf.load_simulator)


def load_prior(reference: str) -> sf.Prior:
    """The prior that `reference` names, or that of a simulator. Raises `PluginError`."""
    return _named(reference, plugins.load_prior)


def _named(reference: str, load: Callable[[str], Loaded]) -> Loaded:
    module, separator, attribute = reference.rpartition(":")
    if separator and not (module and attribute):
        missing = "attribute after" if module else "module or file before"
        raise PluginError(
            f"{reference}: the {missing} the colon is missing. Give package.module:attribute or "
            f"path/to/file.py:attribute."
        )
    try:
        return load(reference)
    except PluginError as error:
        if module.endswith(".py"):
            line = _line_of(error.__cause__, Path(module))
            hint = "" if line is None else f"It is line {line} of {module}."
        else:
            hint = _file_meant(module or reference, attribute if module else "attribute")
        if hint:
            error.add_note(hint)
        raise


def load_pairs(prior: sf.Prior, theta: Path, data: Path, reading: Reading) -> sf.Simulations:
    """Pairs made elsewhere, from two files: parameters by the names of their columns, or in the order of the
    prior where there are none; and data with one row per simulation.
    """
    import pandas

    parameters, events = reading.table(theta), reading.table(data)
    given: Any = parameters.values
    if parameters.columns is not None:
        plain = {re.sub(r"[^\w.]", ".", name): name for name in prior.names}  # as R writes w[0]
        given = pandas.DataFrame(given, columns=[plain.get(name, name) for name in parameters.columns])
    try:
        return sf.Simulations.from_arrays(prior, given, events.values)
    except ShapeError as error:
        error.add_note(
            f"theta is {theta}, y is {data}: both with one row per simulation. --index NAME leaves a column "
            "of a .csv out."
        )
        raise


def load_posterior(path: Path, simulator: sf.Simulator | None) -> sf.Posterior:
    """The posterior in a file; the simulator, where one was named, for the summaries that it declares and for
    its prior.
    """
    try:
        return sf.load(path, simulator=simulator)
    except (SummariesError, PriorError) as error:
        error.add_note("On the command line: --simulator path/to/file.py:attribute.")
        raise


def posterior_for(
    tables: Tables, path: Path, reference: str | None
) -> tuple[sf.Posterior, sf.Simulator | None]:
    """A posterior and its simulator; pairs need no simulator, and do without one that is not named."""
    if tables.theta is None or reference is not None:
        return with_simulator(path, reference)
    return load_posterior(path, None), None


def with_simulator(path: Path, reference: str | None) -> tuple[sf.Posterior, sf.Simulator]:
    """A posterior and its simulator: the one that was named, else the plug-in of the stored name."""
    named = None if reference is None else load_simulator(reference)
    posterior = load_posterior(path, named)
    name = posterior.facts["simulator"]
    if named is None and name == GIVEN:
        raise SettingsError(
            "this posterior was trained on pairs made elsewhere. Name their simulator, --simulator "
            "path/to/file.py:attribute; check and compare also take further pairs, --theta and --data."
        )
    if named is None and name not in {plugin.name for plugin in plugins.list_plugins()}:
        raise SettingsError(
            f"this posterior's simulator {name!r} is not an installed plug-in. Name it: --simulator "
            f"path/to/file.py:{name}"
        )
    return posterior, named or load_simulator(name)


def load_bank(path: Path, prior: sf.Prior | None = None) -> sf.Simulations:
    """The bank that an option names; the prior, where one is known, for what a file cannot hold of it. Raises
    `SettingsError` where no folder can be.
    """
    if (obstacle := file_on_the_way(path)) is not None:
        raise SettingsError(
            f"{path}: {obstacle} is a file, not the folder of a bank. Give the folder that `sbi-flows "
            f"simulate` made."
        )
    try:
        return sf.read_bank(path)
    except PriorError:
        if prior is None:
            raise
        return sf.read_bank(path, prior=prior)


def all_of_bank(path: Path, asked: sf.Simulations) -> sf.Simulations:
    """The whole bank at `path`, of which `asked` are the first simulations."""
    if len(asked) % asked.block_size == 0 and len(Bank(path, {}).present()) == asked.n_blocks:
        return asked
    try:
        return load_bank(path, asked.prior)
    except StorageError as error:
        error.add_note(f"The {len(asked):,} simulations that were asked for are undamaged.")
        raise


@contextmanager
def advice_as_flags() -> Iterator[None]:
    """Of too few simulations, the advice names an option of the command line, not an argument of Python."""
    try:
        yield
    except TooFewSimulationsError as error:
        text = str(error).replace("n_simulations=10_000", "-n 10000")
        raise TooFewSimulationsError(text if "-n " in text else f"{text} Simulate more: -n 10000.") from error


def _line_of(error: BaseException | None, file: Path) -> int | None:
    """The line of `file` that raised `error`, or whose syntax is wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(file.resolve()):
        return error.lineno
    frames = [] if error is None else traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(file.resolve())), None)


def _file_meant(module: str, attribute: str) -> str:
    """A hint if there is a file under the name that was taken for a module or a plug-in."""
    file = Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
    return f"There is a file {file}: for a simulator in it, name {file}:{attribute}" if file.is_file() else ""
