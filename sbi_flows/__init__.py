"""Simulation-based inference with normalizing flows: a plain NumPy simulator in, an amortised posterior out.

The road from a simulator to a posterior:

    prior = sf.Prior(rate=scipy.stats.uniform(0, 5))

    @sf.simulator(prior)
    def my_model(theta, rng):
        return rng.poisson(theta["rate"][:, None], (len(theta["rate"]), 20))

    posterior = sf.fit(my_model, n_simulations=20_000, seed=1)
    draws = posterior.sample(y_obs, 4_000, seed=2)
    print(draws.summary())
    print(draws.verdict)
"""

import sys
from importlib import import_module, metadata, util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sbi_flows import testing as testing
    from sbi_flows.baselines.rejection import rejection_abc as rejection_abc
    from sbi_flows.calibration.check import check as check
    from sbi_flows.calibration.learning_curve import LearningCurve as LearningCurve
    from sbi_flows.calibration.learning_curve import learning_curve as learning_curve
    from sbi_flows.calibration.recalibrate import Recalibration as Recalibration
    from sbi_flows.calibration.recalibrate import recalibrate as recalibrate
    from sbi_flows.calibration.result import Check as Check
    from sbi_flows.comparison.compare import compare as compare
    from sbi_flows.comparison.result import Comparison as Comparison
    from sbi_flows.draws import Draws as Draws
    from sbi_flows.npe.settings import FitSettings as FitSettings
    from sbi_flows.posterior.fit import fit as fit
    from sbi_flows.posterior.load import load as load
    from sbi_flows.posterior.posterior import Posterior as Posterior
    from sbi_flows.posterior.request import RefineSettings as RefineSettings
    from sbi_flows.problem.command import command_simulator as command_simulator
    from sbi_flows.problem.data import Grid as Grid
    from sbi_flows.problem.data import Series as Series
    from sbi_flows.problem.data import Set as Set
    from sbi_flows.problem.data import Vector as Vector
    from sbi_flows.problem.groups import iid as iid
    from sbi_flows.problem.patterns import gaps as gaps
    from sbi_flows.problem.patterns import lengths as lengths
    from sbi_flows.problem.plugins import load_simulator as load_simulator
    from sbi_flows.problem.prior import Prior as Prior
    from sbi_flows.problem.replicates import replicates as replicates
    from sbi_flows.problem.simulator import Simulator as Simulator
    from sbi_flows.problem.simulator import simulator as simulator
    from sbi_flows.simulation.bank import read_bank as read_bank
    from sbi_flows.simulation.engine import simulate as simulate
    from sbi_flows.simulation.settings import SimulateSettings as SimulateSettings
    from sbi_flows.simulation.simulations import Simulations as Simulations
    from sbi_flows.training.settings import TrainSettings as TrainSettings
    from sbi_flows.verdict import Verdict as Verdict

_PUBLIC = {
    "baselines.rejection": "rejection_abc",
    "calibration.check": "check",
    "calibration.learning_curve": "LearningCurve learning_curve",
    "calibration.recalibrate": "Recalibration recalibrate",
    "calibration.result": "Check",
    "comparison.compare": "compare",
    "comparison.result": "Comparison",
    "draws": "Draws",
    "npe.settings": "FitSettings",
    "posterior.fit": "fit",
    "posterior.load": "load",
    "posterior.posterior": "Posterior",
    "posterior.request": "RefineSettings",
    "problem.command": "command_simulator",
    "problem.data": "Grid Series Set Vector",
    "problem.patterns": "gaps lengths",
    "problem.groups": "iid",
    "problem.plugins": "load_simulator",
    "problem.prior": "Prior",
    "problem.replicates": "replicates",
    "problem.simulator": "Simulator simulator",
    "simulation.bank": "read_bank",
    "simulation.engine": "simulate",
    "simulation.settings": "SimulateSettings",
    "simulation.simulations": "Simulations",
    "training.settings": "TrainSettings",
    "verdict": "Verdict",
}
_HOME = {name: f"{__name__}.{module}" for module, names in _PUBLIC.items() for name in names.split()}
__all__ = sorted([*_HOME, "testing"])

if not TYPE_CHECKING:  # mypy then knows the names above and no others

    def __getattr__(name: str) -> object:
        """Import a public name, or a module of the package, where it is first asked for: simulating must not
        cost importing torch.
        """
        if name == "__version__":
            return metadata.version(__name__)
        if name in _HOME:
            return globals().setdefault(name, getattr(import_module(_HOME[name]), name))
        if name.isidentifier() and not name.startswith("_") and util.find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__]
        )

    def __dir__() -> list[str]:
        return list(__all__)
