"""Conditional normalizing flows: layers, their composition, named recipes, and densities fitted to samples.

density = flows.fit_density(x, kind="nsf")
density.log_prob(x), density.sample(1000), density.to_noise(x), density.to_value(noise)
"""

from sbi_flows.flows.composition import Composed, Inverse, compose
from sbi_flows.flows.conditional import ConditionalFlow
from sbi_flows.flows.density import Density, fit_density
from sbi_flows.flows.recipes import build_flow
from sbi_flows.flows.sampling import build_sampling_flow

__all__ = [
    "Composed",
    "ConditionalFlow",
    "Density",
    "Inverse",
    "build_flow",
    "build_sampling_flow",
    "compose",
    "fit_density",
]
