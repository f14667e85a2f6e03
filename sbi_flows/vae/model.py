"""The variational autoencoder: a deep latent variable model and its amortised posterior, trained together.

    z ~ N(0, I),  x ~ p(x | decoder(z)),     q(z | x) by the encoder

    maximise  sum_i E_q[log p(x_i | z)] - KL(q(z | x_i) || p(z))

Kingma & Welling (2014), 1312.6114. Weights are trained in float32 by the loop of `training`; all that is
evaluated is in float64.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Unpack, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from sbi_flows.arrays import F, integer, rows_of
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.files import Manifest, ModelFormat
from sbi_flows.flows.sampling import GAUSSIAN_KINDS, SamplingKind, build_sampling_flow
from sbi_flows.nets.encoder import TrainedEncoder
from sbi_flows.nets.scaling import Scaler
from sbi_flows.nets.vector import VectorSummary
from sbi_flows.rng import check_seed, stream, torch_scope
from sbi_flows.training.history import History
from sbi_flows.training.loop import Progress
from sbi_flows.training.rows import digest
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.bounds import Elbo, Evidence, elbo, evidence, log_weights
from sbi_flows.vae.fitting import FitOptions, Fitting, built, fit_bound, restored_on_error
from sbi_flows.vae.interpolation import path_between
from sbi_flows.vae.likelihoods import Likelihood, check_values, likelihood_of, to_json
from sbi_flows.vae.network import Autoencoder, Decoder, Encoder, LearnedPrior, check_decoder, set_seen_units
from sbi_flows.vae.objective import NoisyRows, check_enough, in_float32
from sbi_flows.vae.settings import VAESettings, training_for

VAE_FILE = ModelFormat("variational autoencoder", loader="vae.load")
_CHECKED_EVENTS, CHECKED_DRAWS = 4, 8
_DRAWS_OF_A_MEAN = 64
_FROZEN = {"decoder": ("decoder",), "encoder": ("encoder",), "model": ("decoder", "prior")}


class VAE:
    """A variational autoencoder of events x of shape `event_shape` with `latent` numbers z.

    likelihood: "bernoulli", "gaussian", "poisson", "categorical", "binomial", or a record such as
        `vae.Gaussian(sd="per_feature")`.
    encoder: "diagonal", "full_rank", "planar", "iaf", "coupling" or "spline_coupling".
    seed: the starting weights and all that is random in `fit` are a function of it.
    decoder: your own module (rows, latent) -> (rows, heads, elements of x), in the units of x, instead of the
        perceptron; it is trained in place. heads: how many numbers the likelihood takes per element: 1 (a
        logit, a log rate or a mean), for categories their logits, for vae.Gaussian(sd="network") 2, mean and
        log sd.
    settings: sizes of the networks.

    Arrays come in as anything that NumPy takes, one event or a stack of them, and go out as float64, one row
    per event.
    """

    _undecayed: tuple[str, ...] = ("encoder.flow.layers.0.", "encoder.summary.linear.", "decoder.net.linear.")

    def __init__(
        self,
        *,
        event_shape: int | Sequence[int],
        latent: int,
        likelihood: str | Likelihood = "bernoulli",
        encoder: str = "diagonal",
        seed: int = 0,
        decoder: nn.Module | None = None,
        settings: VAESettings | None = None,
    ) -> None:
        shape = tuple(event_shape) if isinstance(event_shape, Iterable) else (event_shape,)
        self.event_shape = tuple(integer("each size in event_shape", size) for size in shape)
        self.latent, self.encoder, self.seed = integer("latent", latent), encoder, check_seed(seed)
        self.likelihood = likelihood_of(likelihood)
        self.settings = VAESettings() if settings is None else settings
        if not isinstance(self.settings, VAESettings):
            raise SettingsError(f"settings must be vae.VAESettings(...), got {settings!r}.")
        if not (decoder is None or isinstance(decoder, nn.Module)):
            raise SettingsError(f"decoder must be a torch.nn.Module, got {decoder!r}.")
        self.history = History()
        self.own_decoder, self.scaled = decoder is not None, False
        self._decoder = decoder
        if not isinstance(encoder, str) or encoder not in get_args(SamplingKind):
            raise SettingsError(
                f"encoder must be one of {', '.join(get_args(SamplingKind))}, got {encoder!r}."
            )
        self._module = self._built(self.likelihood) if self.likelihood.heads else None

    def fit(
        self, x_train: ArrayLike, x_valid: ArrayLike | None = None, **options: Unpack[FitOptions]
    ) -> History:
        """Train on x_train; keep the weights whose bound on x_valid (else a tenth of x_train) is best after
        warm-up.

        Options, by name (`vae.fitting.FitOptions` explains each): epochs (300), warmup, free_bits, draws,
        frozen ("decoder", "encoder" or "model"), train_settings, checkpoint, progress.

        A second call continues with the weights, and in the units, of the first. A call that is refused or
        interrupted leaves the model as it was. Raises `ShapeError`, `ObservationError`, `SettingsError`,
        `TooFewSimulationsError`, `NonFiniteLossError`, and `BankMismatchError` for the checkpoint of another
        run.
        """
        fitting = Fitting.of(options, epochs=300, frozen=_FROZEN)
        x = rows_of(x_train, self.event_shape, "x_train")
        check_enough(len(x), x_valid is None)
        with restored_on_error(self, self._module, self._decoder):
            self.likelihood = self.likelihood.completed(x)
            check_values(self.likelihood, x)
            valid = None if x_valid is None else self._numbers(x_valid, "x_valid")
            module = self._module = self._module or self._built(self.likelihood)
            if not self.scaled:
                self._scale(module, x, fitting.frozen)
            # Training is in float32, which could not tell numbers apart that are large for their spread.
            gaussian, centre = self.likelihood.name == "gaussian", module.encoder.centre
            offset = centre.clone() if gaussian else torch.zeros_like(centre)
            near = None if valid is None else in_float32(valid - offset.numpy())
            training = fitting.training(training_for(len(x), fitting.epochs))
            noise = fitting.draws, module.noise_width
            rows = NoisyRows(in_float32(x - offset.numpy()), near, training, self.seed, fitting.warmup, noise)
            still = [getattr(module, name) for name in _FROZEN.get(fitting.frozen or "", ())]
            identity = {
                "free_bits": fitting.free_bits,
                "frozen": fitting.frozen,
                "encoder": self.encoder,
                "likelihood": to_json(self.likelihood),
                "offset": digest([offset]),
            }
            fixed = [p for part in still if part is not None for p in part.parameters()]
            module.shift(-offset)
            self.history = fit_bound(module, rows, fitting, identity, undecayed=self._undecayed, fixed=fixed)
            module.shift(offset)
        return self.history

    def refine_encoder(
        self,
        x_train: ArrayLike,
        x_valid: ArrayLike | None = None,
        *,
        draws: int = 32_000,
        epochs: int = 12,
        progress: Progress | None = None,
    ) -> History:
        """Train only the encoder further, on `draws` events from the model as well as on x_train: p(x) stays.

        With few data the encoder overfits before the decoder does, and the bound on other events is then
        loose. Draws from the model are unlimited (the sleep phase of Hinton et al. 1995, here with the bound
        as its objective). x_train is repeated until it makes a tenth of all. Arguments and errors as for
        `fit`; raises `SettingsError` before it.
        """
        draws, x = integer("draws", draws), rows_of(x_train, self.event_shape, "x_train")
        if not self.scaled:
            raise SettingsError(
                "refine_encoder takes an autoencoder that has been trained. Call fit(x_train) first."
            )
        check_enough(len(x), x_valid is None)
        if x_valid is None:
            held_out = np.arange(len(x)) % 10 == 0
            x, x_valid = x[~held_out], x[held_out].reshape(-1, *self.event_shape)
        sampled = self.sample(draws, seed=self.seed).reshape(draws, -1)
        rows = np.concatenate([sampled, *[x] * max(1, draws // (9 * len(x)))])
        settings = TrainSettings(
            epochs=epochs, batch_size=64, learning_rate=1e-3, patience=integer("epochs", epochs)
        )
        shaped = rows.reshape(-1, *self.event_shape)
        return VAE.fit(
            self, shaped, x_valid, epochs=epochs, frozen="model", train_settings=settings, progress=progress
        )

    def elbo(self, x: ArrayLike, n: int = 64, *, seed: int = 0) -> Elbo:
        """The bound on log p(x) of each row and its terms, in nats, from n draws of z; the KL in closed form
        for Gaussian encoders.
        """
        return elbo(
            self.module, torch.from_numpy(self._numbers(x)), integer("n", n), stream(check_seed(seed), "elbo")
        )

    def log_evidence(self, x: ArrayLike, n: int = 500, *, seed: int = 0) -> Evidence:
        """log p(x) of each row by importance sampling from q, with standard error and k-hat, in nats."""
        return evidence(self.log_weights(x, n, seed=seed))

    def log_weights(self, x: ArrayLike, n: int, *, seed: int = 0) -> F:
        """log p(x, z) - log q(z | x) of n draws from q for each row, (rows, n), in nats."""
        return log_weights(
            self.module,
            torch.from_numpy(self._numbers(x)),
            integer("n", n),
            stream(check_seed(seed), "weights of draws"),
        )

    def encode(self, x: ArrayLike, n: int = 1, *, seed: int = 0) -> F:
        """n draws from q(z | x) for each row, (rows, n, latent)."""
        numbers = torch.from_numpy(self._numbers(x))
        noise = stream(check_seed(seed), "encode").standard_normal(
            (len(numbers), integer("n", n), self.latent)
        )
        with torch.no_grad():
            z, _ = self.module.encoder.draw(self.module.encoder.context(numbers), torch.from_numpy(noise))
        return z.numpy()

    def latent_mean(self, x: ArrayLike) -> F:
        """E[z | x] under q for each row, (rows, latent): exact for Gaussian encoders, else the mean of 64
        draws in opposite pairs.
        """
        numbers = torch.from_numpy(self._numbers(x))
        half = stream(0, "latent mean").standard_normal((1, _DRAWS_OF_A_MEAN // 2, self.latent))
        noise = np.concatenate([half, -half], axis=1).repeat(len(numbers), axis=0)
        with torch.no_grad():
            z, _ = self.module.encoder.draw(self.module.encoder.context(numbers), torch.from_numpy(noise))
        return z.mean(dim=1).numpy()

    def decode(self, z: ArrayLike) -> F:
        """E[x | z] of each row of z (rows, latent), in the shape (rows, *event_shape); the most probable
        class where x is categorical.
        """
        with torch.no_grad():
            mean = self.module.decoder.mean(torch.from_numpy(rows_of(z, (self.latent,), "z")))
        return mean.numpy().reshape(-1, *self.event_shape)

    def log_likelihood(self, x: ArrayLike, z: ArrayLike) -> F:
        """log p(x | z) of each pair of rows, (rows,), in nats."""
        numbers, places = self._numbers(x), rows_of(z, (self.latent,), "z")
        if len(numbers) != len(places) and 1 not in (len(numbers), len(places)):
            raise ShapeError(
                f"x and z must have as many rows as one another, or one; got {len(numbers)} and "
                f"{len(places)}."
            )
        with torch.no_grad():
            found = self.module.decoder.log_prob(torch.from_numpy(numbers), torch.from_numpy(places))
        return found.numpy()

    def reconstruct(self, x: ArrayLike) -> F:
        """E[x | z] at z = E[z | x], (rows, *event_shape)."""
        return self.decode(self.latent_mean(x))

    def sample(self, n: int, *, seed: int = 0) -> F:
        """n draws from p(x), (n, *event_shape): z from the prior, then x from p(x | z), noise included. For
        means use `decode`.
        """
        rng = stream(check_seed(seed), "sample")
        z = self._prior_draws(integer("n", n), rng)
        decoder = self.module.decoder
        with torch.no_grad():
            out = decoder(torch.from_numpy(z)).numpy()
        return self.likelihood.sample(out, decoder.free.detach().numpy(), rng).reshape(-1, *self.event_shape)

    def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int, *, path: str = "linear") -> F:
        """E[x | z] along the "linear" or "spherical" path from E[z | a] to E[z | b], both ends included,
        (steps, *event_shape).
        """
        ends = [self.latent_mean(end) for end in (a, b)]
        if len(ends[0]) != 1 or len(ends[1]) != 1:
            raise ShapeError(
                f"a path leads from one event to one event, got {len(ends[0])} and {len(ends[1])}."
            )
        return self.decode(path_between(ends[0][0], ends[1][0], integer("steps", steps), path))

    def as_summary(self) -> TrainedEncoder:
        """The encoder's network and the scaling of what it sees, for `sf.fit(summary=)`. Raises
        `SettingsError` before `fit`.
        """
        if not self.scaled:
            raise SettingsError(
                "summary is an autoencoder that has not been trained. Call its fit(x_train) first."
            )
        encoder = self.module.encoder
        mean, sd = encoder.centre.numpy(), encoder.scale.numpy()
        scaler = Scaler.given(self.event_shape, counts=encoder.counts, mean=mean, sd=sd)
        return TrainedEncoder(cast("VectorSummary", encoder.summary), scaler)

    def active_units(self, x: ArrayLike, least: float = 0.01) -> NDArray[np.bool_]:
        """Which latent dimensions say anything about x: those with Var_x E[z_j | x] > least, (latent,)."""
        return np.asarray(self.latent_mean(x).var(axis=0) > least)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, whole or not at all; `vae.load` makes the same autoencoder from
        it.
        """
        x = self.sample(_CHECKED_EVENTS, seed=0)
        leaves, checks = {"net": self.module.state_dict()}, self.elbo(x, CHECKED_DRAWS, seed=0).terms
        VAE_FILE.save(path, self.record(), leaves, {"x": x, **checks})

    def record(self) -> Manifest:
        """All that is not a weight, as JSON."""
        return {
            "event_shape": list(self.event_shape),
            "latent": self.latent,
            "likelihood": to_json(self.likelihood),
            "encoder": self.encoder,
            "seed": self.seed,
            "own_decoder": self.own_decoder,
            "scaled": self.scaled,
            "settings": self.settings.to_json(),
            "history": asdict(self.history),
        }

    @property
    def module(self) -> Autoencoder:
        """The networks, in float64. Raises `SettingsError` where they wait for data."""
        return built(self._module, self.likelihood, "fit(x_train)")

    def _built(self, likelihood: Likelihood) -> Autoencoder:
        m, sizes = int(np.prod(self.event_shape)), self.settings
        heads = likelihood.heads
        with torch_scope(stream(self.seed, "weights")):
            features = sizes.summary_features or 2 * self.latent
            summary = VectorSummary(m, features, sizes.width)
            flow = build_sampling_flow(
                self.encoder, self.latent, features, width=sizes.flow_width, layers=sizes.layers
            )
            net = self._decoder or VectorSummary(self.latent, heads * m, sizes.width)
            prior = self._prior()
        kind = self.encoder if self.encoder in GAUSSIAN_KINDS else ""
        encoder = Encoder(summary, flow, m, gaussian=kind, counts=likelihood.name == "poisson")
        module = Autoencoder(encoder, Decoder(net, likelihood, m), prior).double().eval()
        if self.own_decoder:
            check_decoder(net, self.latent, heads, m)
        return module

    def _prior(self) -> LearnedPrior | None:
        return None

    def _prior_draws(self, n: int, rng: np.random.Generator) -> F:
        return rng.standard_normal((n, self.latent))

    def _scale(self, module: Autoencoder, x: F, frozen: str | None) -> None:
        """Bring the networks to the units of the data; only a Gaussian's elements each have their own."""
        seen = module.encoder.seen(torch.from_numpy(x)).numpy()
        set_seen_units(module.encoder, seen, each=self.likelihood.name == "gaussian")
        if "decoder" not in _FROZEN.get(frozen or "", ()):
            module.decoder.set_units(self.likelihood.start(x), own=self.own_decoder)
        self.scaled = True

    def _numbers(self, x: ArrayLike, name: str = "x") -> F:
        """Rows of x that the likelihood can give."""
        rows = rows_of(x, self.event_shape, name)
        check_values(self.likelihood, rows)
        return rows
