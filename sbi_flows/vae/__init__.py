"""Variational autoencoders: the conditional flow that is q(theta | y) in inference is q(z | x) here.

model = vae.VAE(event_shape=(64,), latent=8, likelihood="bernoulli", encoder="iaf", seed=0)
model.fit(x_train, x_valid, epochs=300, warmup=100)
model.elbo(x).bound, model.log_evidence(x, n=500), model.reconstruct(x), model.sample(16)
"""

from sbi_flows.vae.bounds import Elbo, Evidence
from sbi_flows.vae.cluster import ClusterVAE
from sbi_flows.vae.hierarchical import HierarchicalVAE
from sbi_flows.vae.interpolation import path_between
from sbi_flows.vae.latent import Optimum, attribute_vector, optimise
from sbi_flows.vae.likelihoods import Bernoulli, Binomial, Categorical, Gaussian, Poisson
from sbi_flows.vae.load import load
from sbi_flows.vae.model import VAE
from sbi_flows.vae.sde.model import LatentSDE
from sbi_flows.vae.sde.paths import Paths
from sbi_flows.vae.sde.prior import PriorSDE
from sbi_flows.vae.sde.settings import SDESettings
from sbi_flows.vae.settings import VAESettings
from sbi_flows.vae.text.model import SentenceVAE
from sbi_flows.vae.text.network import SentenceSettings
from sbi_flows.vae.warmup import Warmup

__all__ = [
    "VAE",
    "Bernoulli",
    "Binomial",
    "Categorical",
    "ClusterVAE",
    "Elbo",
    "Evidence",
    "Gaussian",
    "HierarchicalVAE",
    "LatentSDE",
    "Optimum",
    "Paths",
    "Poisson",
    "PriorSDE",
    "SDESettings",
    "SentenceSettings",
    "SentenceVAE",
    "VAESettings",
    "Warmup",
    "attribute_vector",
    "load",
    "optimise",
    "path_between",
]
