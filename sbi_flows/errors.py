"""Everything that sbi_flows raises on purpose, as one tree.

    SbiFlowsError
    |-- InputError (also ValueError)         the caller's input cannot be used as it is
    |   |-- PriorError                       a marginal that is not a proper continuous distribution
    |   |-- ShapeError                       an array of the wrong shape
    |   |-- ObservationError                 observed data that are missing, not numbers, or not finite
    |   |-- SettingsError                    an option out of its range, or options that exclude one another
    |   |-- SummariesError                   declared summaries that a posterior needs, missing or others
    |   |-- PluginError                      a simulator that cannot be found or imported
    |   |-- UnknownParameterError (also KeyError)   a name that no parameter has
    |   `-- TooFewRowsError                  not enough usable rows for what was asked
    |       `-- TooFewSimulationsError       where the rows are simulations
    |-- SimulationError
    |   |-- CommandError                     a program that fails, ends, or prints an invalid response
    |   |-- SimulatorContractError           one that breaks its contract (shape, type, writes to theta)
    |   |   `-- NonDeterministicSimulatorError   one that gives other numbers for the same stream
    |   |-- WorkerError                      a process that cannot be started, or cannot load the simulator
    |   `-- TooManyFailuresError             more simulations failed than the stated share
    |-- TrainingError
    |   `-- NonFiniteLossError               the loss is NaN or infinite; `.rows` are those of the batch
    `-- StorageError
        |-- CorruptFileError                 a file that is not what its digest says, or not ours
        |-- FormatVersionError               a file in a newer format, or in one that is no longer read
        |-- BankLockedError                  a bank that another run is writing
        `-- MismatchError                    a file that belongs to another run
            `-- BankMismatchError            a bank, or the checkpoint of a training

Each message gives the value that came, the value that was wanted, and the next step. `exit_code` is what the
command line returns: 2 where the user can put it right by changing the input, 1 otherwise.
`SimulationWarning` is a warning, not an error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BankLockedError",
    "BankMismatchError",
    "CommandError",
    "CorruptFileError",
    "FormatVersionError",
    "InputError",
    "MismatchError",
    "NonDeterministicSimulatorError",
    "NonFiniteLossError",
    "ObservationError",
    "PluginError",
    "PriorError",
    "SbiFlowsError",
    "SettingsError",
    "ShapeError",
    "SimulationError",
    "SimulationWarning",
    "SimulatorContractError",
    "StorageError",
    "SummariesError",
    "TooFewRowsError",
    "TooFewSimulationsError",
    "TooManyFailuresError",
    "TrainingError",
    "UnknownParameterError",
    "WorkerError",
]


class SimulationWarning(UserWarning):
    """Something about simulations that is not an error yet: many failures, a damaged block that was made
    again.
    """


class SbiFlowsError(Exception):
    """Root of all errors raised by sbi_flows."""

    exit_code = 1


class InputError(SbiFlowsError, ValueError):
    """The caller's input cannot be used as it is."""

    exit_code = 2


class PriorError(InputError):
    """A prior, or one of its marginals, is not a proper continuous distribution."""


class ShapeError(InputError):
    """An array has another shape than the one that is declared."""


class ObservationError(InputError):
    """Observed data are missing, not numbers, or not finite."""


class SettingsError(InputError):
    """An option is out of its range, or two options exclude one another."""


class SummariesError(InputError):
    """The declared summaries that a posterior was trained with were not passed, or give other numbers."""


class PluginError(InputError):
    """A simulator cannot be found, or its module cannot be imported."""


class UnknownParameterError(InputError, KeyError):
    """A name that no parameter has, of these draws or of the prior."""

    def __str__(self) -> str:
        return str(self.args[0])


class TooFewRowsError(InputError):
    """There are not enough usable rows for what was asked."""


class TooFewSimulationsError(TooFewRowsError):
    """There are not enough usable simulations for what was asked."""


class SimulationError(SbiFlowsError):
    """Simulating did not go as it should."""

    exit_code = 2


class CommandError(SimulationError):
    """A program that simulates reported an error, ended, could not be started, or printed an invalid
    response.
    """


class SimulatorContractError(SimulationError):
    """A simulator returned something other than `(n, *event_shape)` finite-typed numbers, or wrote to its
    input.
    """


class NonDeterministicSimulatorError(SimulatorContractError):
    """A simulator gave different numbers for the same theta and the same random stream."""


class WorkerError(SimulationError):
    """A worker or child process could not be started, or could not load the simulator."""


class TooManyFailuresError(SimulationError):
    """More simulations failed than `max_failures` allows."""


class TrainingError(SbiFlowsError):
    """Training could not be completed."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite.

    `rows` holds the numbers of the rows of the batch in which it happened.
    """

    def __init__(self, message: str, rows: NDArray[np.int64]) -> None:
        super().__init__(message)
        self.rows = rows

    def __reduce__(self) -> tuple[type[NonFiniteLossError], tuple[str, NDArray[np.int64]], dict[str, object]]:
        return type(self), (str(self), self.rows), self.__dict__


class StorageError(SbiFlowsError):
    """A file could not be read or written."""


class CorruptFileError(StorageError):
    """A file does not match its digest, or was not written by sbi_flows."""

    exit_code = 2


class FormatVersionError(StorageError):
    """A file was written in a newer format than this version reads, or in an older one that it no longer
    reads.
    """

    exit_code = 2


class BankLockedError(StorageError):
    """Another run is writing this bank."""

    exit_code = 2


class MismatchError(StorageError):
    """A file belongs to another run (simulator, prior, seed, block size, settings) than the one asked for."""

    exit_code = 2


class BankMismatchError(MismatchError):
    """A bank, or the checkpoint of a training, belongs to another run."""
