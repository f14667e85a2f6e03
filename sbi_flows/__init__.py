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
    from sbi_flows import testing
    from sbi_flows.abc.rejection import rejection_abc
    from sbi_flows.comparison.check import Check, check
    from sbi_flows.comparison.compare import Comparison, compare
    from sbi_flows.comparison.learning import LearningCurve, learning_curve
    from sbi_flows.comparison.recalibration import Recalibration, recalibrate
    from sbi_flows.draws import Draws, Verdict
    from sbi_flows.npe.settings import FitSettings
    from sbi_flows.posterior.artefact import load
    from sbi_flows.posterior.fit import fit
    from sbi_flows.posterior.posterior import Posterior
    from sbi_flows.problem.command import command_simulator
    from sbi_flows.problem.plugins import load_simulator
    from sbi_flows.problem.prior import Prior
    from sbi_flows.problem.simulator import Simulator, simulator
    from sbi_flows.simulation.bank import read_bank
    from sbi_flows.simulation.engine import simulate
    from sbi_flows.simulation.settings import SimulateSettings
    from sbi_flows.simulation.simulations import Simulations
    from sbi_flows.training.settings import TrainSettings

__all__ = [
    "Check",
    "Comparison",
    "Draws",
    "FitSettings",
    "LearningCurve",
    "Posterior",
    "Prior",
    "Recalibration",
    "SimulateSettings",
    "Simulations",
    "Simulator",
    "TrainSettings",
    "Verdict",
    "check",
    "command_simulator",
    "compare",
    "fit",
    "learning_curve",
    "load",
    "load_simulator",
    "read_bank",
    "recalibrate",
    "rejection_abc",
    "simulate",
    "simulator",
    "testing",
]

_HOME = {
    "Check": "sbi_flows.comparison.check",
    "Comparison": "sbi_flows.comparison.compare",
    "Draws": "sbi_flows.draws",
    "FitSettings": "sbi_flows.npe.settings",
    "LearningCurve": "sbi_flows.comparison.learning",
    "Posterior": "sbi_flows.posterior.posterior",
    "Prior": "sbi_flows.problem.prior",
    "Recalibration": "sbi_flows.comparison.recalibration",
    "SimulateSettings": "sbi_flows.simulation.settings",
    "Simulations": "sbi_flows.simulation.simulations",
    "Simulator": "sbi_flows.problem.simulator",
    "TrainSettings": "sbi_flows.training.settings",
    "Verdict": "sbi_flows.draws",
    "check": "sbi_flows.comparison.check",
    "command_simulator": "sbi_flows.problem.command",
    "compare": "sbi_flows.comparison.compare",
    "fit": "sbi_flows.posterior.fit",
    "learning_curve": "sbi_flows.comparison.learning",
    "load": "sbi_flows.posterior.artefact",
    "load_simulator": "sbi_flows.problem.plugins",
    "read_bank": "sbi_flows.simulation.bank",
    "recalibrate": "sbi_flows.comparison.recalibration",
    "rejection_abc": "sbi_flows.abc.rejection",
    "simulate": "sbi_flows.simulation.engine",
    "simulator": "sbi_flows.problem.simulator",
}

if not TYPE_CHECKING:  # mypy then knows the names above and no others

    def __getattr__(name: str) -> object:
        """Import a public name, or a module of the package, where it is first asked for: simulating must not cost importing torch."""
        if name == "__version__":
            return metadata.version(__name__)
        if name in _HOME:
            return globals().setdefault(name, getattr(import_module(_HOME[name]), name))
        if name.isidentifier() and not name.startswith("_") and util.find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])

    def __dir__() -> list[str]:
        return list(__all__)
