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

from sbi_flows import testing
from sbi_flows.abc.rejection import rejection_abc
from sbi_flows.comparison.check import Check, check
from sbi_flows.comparison.compare import Comparison, compare
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
from sbi_flows.simulation.simulations import Simulations
from sbi_flows.training.settings import TrainSettings

__all__ = [
    "Check",
    "Comparison",
    "Draws",
    "FitSettings",
    "Posterior",
    "Prior",
    "Simulations",
    "Simulator",
    "TrainSettings",
    "Verdict",
    "check",
    "command_simulator",
    "compare",
    "fit",
    "load",
    "load_simulator",
    "read_bank",
    "rejection_abc",
    "simulate",
    "simulator",
    "testing",
]
