"""A latent SDE fitted to series: what is hidden moves by a stochastic differential equation, and is seen at
some times, with noise.

    dz = h(z, t) dt + g(z, t) dW,  x_k ~ p(x | decoder(z(t_k)))          log p(x_0, ..., x_{T-1}) >= the bound
    of `latent_sde`

Li et al. (2020), 2001.01328. Weights are trained in float32 by the loop of `training`; all that is evaluated
is in float64.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sbi_flows.arrays import F, integer, spread
from sbi_flows.errors import ObservationError, SettingsError, ShapeError
from sbi_flows.flows.sampling import GAUSSIAN_KINDS, build_sampling_flow
from sbi_flows.machine import torch_threads
from sbi_flows.nets.summary import VectorSummary
from sbi_flows.rng import check_seed, stream, torch_scope
from sbi_flows.training.history import History
from sbi_flows.training.loop import TrainOptions, train
from sbi_flows.training.rows import digest
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.bounds import Elbo, Evidence, chunks, elbo, evidence, log_weights
from sbi_flows.vae.likelihoods import Likelihood, check_values, likelihood_of, to_json
from sbi_flows.vae.network import Decoder, check_decoder
from sbi_flows.vae.objective import NoisyRows, check_enough, loss_with
from sbi_flows.vae.sde.bound import LatentPaths, OnSteps
from sbi_flows.vae.sde.networks import BackwardEncoder, Control, Diffusion, Drift, Own
from sbi_flows.vae.sde.paths import Paths
from sbi_flows.vae.sde.prior import PriorSDE, check_field
from sbi_flows.vae.sde.series import Series, steps_between, times_of
from sbi_flows.vae.sde.settings import SDESettings, training_for
from sbi_flows.vae.warmup import Warmup, warmup_of

_STEPS_A_SPAN = 100


class LatentSDE:
    """Series of `features` numbers at each time, driven by an SDE of `latent` numbers.

    likelihood: as of `vae.VAE`. prior: `vae.PriorSDE(...)`, a drift or a diffusion of your own and where z
    starts. decoder: your own module (rows, latent) -> (rows, heads, features), as of `vae.VAE`. settings:
    steps, sizes and kinds, `vae.SDESettings(...)`.
    seed: the weights at the start and all that is random in `fit` are a function of it.

    Series x are (n, T, features), or one (T, features), with NaN (or masked) where an element was not
    observed. times are (T,), shared, or (n, T), each series' own, and increase; a series shorter than others
    has NaN at its last times.
    """

    def __init__(
        self,
        *,
        features: int,
        latent: int,
        likelihood: str | Likelihood = "gaussian",
        seed: int = 0,
        prior: PriorSDE | None = None,
        decoder: nn.Module | None = None,
        settings: SDESettings | None = None,
    ) -> None:
        self.features, self.latent, self.seed = (
            integer("features", features),
            integer("latent", latent),
            check_seed(seed),
        )
        self.likelihood = likelihood_of(likelihood)
        self.settings = SDESettings() if settings is None else settings
        self._prior = PriorSDE() if prior is None else prior
        for name, given, kind in (("settings", self.settings, SDESettings), ("prior", self._prior, PriorSDE)):
            if not isinstance(given, kind):
                raise SettingsError(f"{name} must be vae.{kind.__name__}(...), got {given!r}.")
        if not isinstance(decoder, nn.Module | None):
            raise SettingsError(f"decoder must be a torch.nn.Module, got {decoder!r}.")
        self._decoder = decoder
        self.history = History()
        self.dt, self.origin, self.unit, self.scaled = self.settings.dt, 0.0, 1.0, False
        self._module = self._built(self.likelihood) if self.likelihood.heads else None

    def fit(
        self,
        times: ArrayLike,
        x_train: ArrayLike,
        x_valid: ArrayLike | None = None,
        *,
        times_valid: ArrayLike | None = None,
        epochs: int = 300,
        warmup: int | Warmup = 0,
        draws: int = 1,
        frozen: str | None = None,
        train_settings: TrainSettings | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> History:
        """Train on series x_train and keep the weights whose bound on x_valid (a tenth of x_train unless
        given) is best after the warm-up.

        times_valid: of x_valid, where they are not `times`. draws: paths for each series and step. frozen:
        "model", all of p(x, z), or "encoder", all of q, is left as it is. epochs, warmup, train_settings,
        checkpoint and progress are those of `vae.VAE.fit`.

        A second call goes on from the weights, and in the units, of the first. A call that is refused or
        interrupted leaves the model as it was. Raises `ShapeError`, `ObservationError`, `SettingsError`,
        `TooFewSimulationsError`, `NonFiniteLossError`, and `BankMismatchError` for the checkpoint of another
        run.
        """
        if frozen not in (None, "model", "encoder"):
            raise SettingsError(f"frozen must be 'model', 'encoder' or None, got {frozen!r}.")
        epochs, draws, schedule = integer("epochs", epochs), integer("draws", draws), warmup_of(warmup)
        if schedule.epochs >= epochs:
            raise SettingsError(
                f"the warm-up of {schedule.epochs} epochs must end before training does, after {epochs} "
                f"epochs."
            )
        if not isinstance(train_settings, TrainSettings | None):
            raise SettingsError(f"train_settings must be sf.TrainSettings(...), got {train_settings!r}.")
        if times_valid is not None and x_valid is None:
            raise SettingsError("times_valid has no x_valid to go with. Pass both, or neither.")
        series = Series.of(times, x_train, self.features, "x_train")
        valid = (
            None
            if x_valid is None
            else Series.of(times if times_valid is None else times_valid, x_valid, self.features, "x_valid")
        )
        check_enough(len(series), valid is None)
        if valid is not None and valid.times.shape[1] != series.times.shape[1]:
            found = f"{series.times.shape[1]} and {valid.times.shape[1]}"
            raise ShapeError(
                f"x_train and x_valid must have as many times as one another, got {found}. Pad the shorter "
                f"with NaN."
            )
        settings = replace(train_settings, epochs=epochs) if train_settings else training_for(epochs)
        with self._unchanged_unless_done():
            filled = series.filled()
            self.likelihood = self.likelihood.completed(filled)
            for part in (filled,) if valid is None else (filled, valid.filled()):
                check_values(self.likelihood, part)
            paths = self._module = self._module or self._built(self.likelihood)
            if not self.scaled:
                self._scale(paths, series, filled, frozen)
            offset = (
                paths.reader.centre.clone()
                if self.likelihood.name == "gaussian"
                else torch.zeros_like(paths.reader.centre)
            )
            all_times = [part.times for part in (series, valid) if part is not None]
            steps = self._on_steps(np.concatenate(all_times), adjoint=self.settings.adjoint)
            near = [None if part is None else self._packed(part, offset).float() for part in (series, valid)]
            rows = NoisyRows(near[0], near[1], settings, self.seed, schedule, (draws, steps.noise_width))  # type: ignore[arg-type]
            fixed = [p for p in paths.parameters_of(frozen) if p.requires_grad]
            options = {
                "warmup": asdict(schedule),
                "frozen": frozen,
                "settings of the model": self.settings.to_json(),
            }
            clock = {"steps": steps.counts.tolist(), "origin": self.origin, "unit": self.unit}
            try:
                paths.shift(-offset)
                steps.float()
                for parameter in fixed:
                    parameter.requires_grad_(False)
                with torch_threads(1):
                    self.history = train(
                        steps,
                        loss_with(0.0),
                        rows,
                        TrainOptions(
                            undecayed=self._undecayed(),
                            compare_from=schedule.epochs,
                            checkpoint=checkpoint,
                            identity={
                                **options,
                                **clock,
                                "likelihood": to_json(self.likelihood),
                                "offset": digest([offset]),
                            },
                            progress=progress,
                        ),
                    )
            finally:
                for parameter in fixed:
                    parameter.requires_grad_(True)
                steps.double().eval()
            paths.shift(offset)
        return self.history

    def elbo(self, times: ArrayLike, x: ArrayLike, n: int = 16, *, seed: int = 0) -> Elbo:
        """The bound on log p(x) of each series and its terms, in nats, from n paths."""
        series = self._series(times, x)
        return elbo(
            self._on_steps(series.times),
            self._packed(series),
            integer("n", n),
            stream(check_seed(seed), "elbo"),
        )

    def log_evidence(self, times: ArrayLike, x: ArrayLike, n: int = 50, *, seed: int = 0) -> Evidence:
        """log p(x) of each series by importance sampling of n paths from q, with standard error and k-hat, in
        nats.
        """
        return evidence(self.log_weights(times, x, n, seed=seed))

    def log_weights(self, times: ArrayLike, x: ArrayLike, n: int, *, seed: int = 0) -> F:
        """log p(x, path) - log q(path | x) of n paths from q for each series, (rows, n), in nats; exact on
        the steps of "euler".
        """
        series = self._series(times, x)
        steps = self._on_steps(series.times, weighted=True)
        return log_weights(
            steps, self._packed(series), integer("n", n), stream(check_seed(seed), "weights of draws")
        )

    def reconstruct(
        self, times: ArrayLike, x: ArrayLike, n: int = 100, *, at: ArrayLike | None = None, seed: int = 0
    ) -> Paths:
        """n paths of q for each series, at its own times, or at times (A,) or (rows, A) from its first on,
        observed or not.
        """
        series = self._series(times, x)
        wanted = series.times if at is None else times_of(at, len(series), None, "at")
        if (wanted[:, :1] < series.times[:, :1]).any():
            row = int(np.argmax(wanted[:, 0] < series.times[:, 0]))
            raise ObservationError(
                f"paths start at the first time {series.times[row, 0]:g} of series {row}, got "
                f"{wanted[row, 0]:g}."
            )
        merged, places = series.with_times(wanted)
        steps, rng, found = self._on_steps(merged.times), stream(check_seed(seed), "paths"), []
        with torch.no_grad():
            for part, noise in chunks(steps, self._packed(merged), integer("n", n), rng):
                found.append(steps.run(part, noise)[0])
        z = torch.cat(found).numpy()
        return self._seen(wanted, np.take_along_axis(z, places[:, None, :, None], axis=2), rng)

    def extrapolate(
        self, times: ArrayLike, x: ArrayLike, beyond: ArrayLike, n: int = 100, *, seed: int = 0
    ) -> Paths:
        """n paths of q for each series at times (A,) or (rows, A) from its last one on (the last of `times`,
        also where x has
        NaN there), where the prior takes them.
        """
        series = self._series(times, x)
        wanted = times_of(beyond, len(series), None, "beyond")
        if (wanted[:, :1] < series.times[:, -1:]).any():
            row = int(np.argmax(wanted[:, 0] < series.times[:, -1]))
            raise ObservationError(
                f"times beyond series {row} start at its last, {series.times[row, -1]:g}, got "
                f"{wanted[row, 0]:g}. For those before, "
                "reconstruct(times, x, at=...)."
            )
        return self.reconstruct(times, x, n, at=wanted, seed=seed)

    def prior_paths(self, times: ArrayLike, n: int, *, seed: int = 0) -> Paths:
        """n paths of the prior at times (T,), as one row."""
        given, rng = times_of(times, 1, None, "times"), stream(check_seed(seed), "sample")
        steps = self._on_steps(given)
        noise = torch.from_numpy(rng.standard_normal((1, integer("n", n), steps.noise_width)))
        with torch.no_grad():
            z = steps.prior(torch.from_numpy((given - self.origin) / self.unit), noise).numpy()
        return self._seen(given, z, rng)

    def sample(self, times: ArrayLike, n: int, *, seed: int = 0) -> F:
        """n series from p(x) at times (T,), (n, T, features), noise included."""
        return np.asarray(self.prior_paths(times, n, seed=seed).observed[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, from which `vae.LatentSDE.load` makes the same model."""
        from sbi_flows.vae.sde.load import save_sde

        save_sde(self, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, prior: PriorSDE | None = None, decoder: nn.Module | None = None
    ) -> LatentSDE:
        """The model that `save` wrote; modules like those of your own that it was made with are passed in
        again.

        Raises `StorageError`, `CorruptFileError` (also if the check values do not come out),
        `FormatVersionError`, `SettingsError`.
        """
        from sbi_flows.vae.sde.load import load_sde

        return load_sde(path, prior, decoder)

    @property
    def own(self) -> dict[str, bool]:
        """Which modules are the user's."""
        given = {"drift": self._prior.drift, "diffusion": self._prior.diffusion, "decoder": self._decoder}
        return {name: module is not None for name, module in given.items()}

    @property
    def module(self) -> LatentPaths:
        """The networks, in float64. Raises `SettingsError` where they wait for data."""
        if self._module is None:
            raise SettingsError(
                f"the {self.likelihood.name} likelihood takes its number of values from the training data. "
                f"Call fit(times, x_train) first."
            )
        return self._module

    @contextmanager
    def _unchanged_unless_done(self) -> Iterator[None]:
        before = self._module, self.likelihood, self.history, self.dt, self.origin, self.unit, self.scaled
        parts = (self._module, self._prior.drift, self._prior.diffusion, self._decoder)
        weights = [
            (part, {k: v.clone() for k, v in part.state_dict().items()}) for part in parts if part is not None
        ]
        try:
            yield
        except BaseException:
            self._module, self.likelihood, self.history, self.dt, self.origin, self.unit, self.scaled = before
            if self._module is not None:
                self._module.set_clock(self.origin, self.unit)
            for part, values in weights:
                part.load_state_dict(values)
            raise

    def _built(self, likelihood: Likelihood) -> LatentPaths:
        d, m, sizes, own = self.latent, self.features, self.settings, self._prior
        mean, sd = own.start(d)
        with torch_scope(stream(self.seed, "weights")):
            drift = Own(own.drift, 1.0) if own.drift else Drift(d, sizes.hidden, timed=sizes.timed)
            learned = {"constant": sizes.diffusion == "constant", "timed": sizes.timed}
            diffusion = (
                Own(own.diffusion, 0.5) if own.diffusion else Diffusion(d, sizes.hidden // 4 or 1, **learned)
            )
            control = Control(d, sizes.context, sizes.hidden, mean, sd)
            reader = BackwardEncoder(m, sizes.context, counts=likelihood.name == "poisson")
            flow = build_sampling_flow(sizes.encoder, d, sizes.context, hidden=sizes.hidden // 2 or 1)
            net = self._decoder or VectorSummary(d, likelihood.heads * m, sizes.hidden)
        kind = sizes.encoder if sizes.encoder in GAUSSIAN_KINDS else ""
        decoder = Decoder(net, likelihood, m)
        paths = LatentPaths(
            drift=drift,
            diffusion=diffusion,
            start=(mean, sd),
            control=control,
            reader=reader,
            flow=flow,
            gaussian=kind,
            decoder=decoder,
        )
        paths = paths.double().eval()
        for name, field in (("drift", own.drift), ("diffusion", own.diffusion)):
            if field is not None:
                check_field(name, field, d)
        if self._decoder is not None:
            check_decoder(net, d, likelihood.heads, m)
        return paths

    def _scale(self, paths: LatentPaths, series: Series, filled: F, frozen: str | None) -> None:
        """Bring what the networks see and give to the units of the data, and choose the unit of time and the
        step.
        """
        gaussian = self.likelihood.name == "gaussian"
        centre, scale, free = self.likelihood.start(filled)
        seen = np.log1p(filled) if paths.reader.counts else filled
        sd = spread(seen if gaussian else seen.reshape(-1, 1))
        with torch.no_grad():
            paths.reader.centre.copy_(torch.from_numpy(seen.mean(axis=0)))
            paths.reader.scale.copy_(
                torch.from_numpy(np.broadcast_to(np.where(sd > 0, sd, 1.0), (self.features,)).copy())
            )
            if frozen != "model":
                paths.decoder.free.copy_(torch.from_numpy(free))
            if self._decoder is None and frozen != "model":
                paths.decoder.centre.copy_(torch.from_numpy(centre))
                paths.decoder.scale.copy_(torch.from_numpy(scale))
        self.origin, span, gap = series.clock()
        # Between the time scales of what is seen once a series and what is seen from one time to the next.
        self.unit = float(np.sqrt(span * gap))
        self.dt = self.dt or span / _STEPS_A_SPAN
        paths.set_clock(self.origin, self.unit)
        self.scaled = True

    def _undecayed(self) -> tuple[str, ...]:
        linear = (
            "paths.drift.linear.",
            "paths.diffusion.",
            "paths.decoder.net.linear.",
            "paths.flow.layers.0.",
        )
        return (*linear, *(f"paths.{name}." for name, own in self.own.items() if own))

    def _series(self, times: ArrayLike, x: ArrayLike) -> Series:
        series = Series.of(times, x, self.features)
        check_values(self.likelihood, series.values())
        return series

    def _packed(self, series: Series, offset: Tensor | None = None) -> Tensor:
        return series.packed(
            self.origin, self.unit, np.zeros(self.features) if offset is None else offset.numpy()
        )

    def _on_steps(self, times: F, *, adjoint: bool = False, weighted: bool = False) -> OnSteps:
        paths = self.module
        if self.dt is None:
            raise SettingsError(
                "the step of the solver is taken from the training times. Call fit first, or set "
                "vae.SDESettings(dt=...)."
            )
        return OnSteps(
            paths,
            steps_between(times, self.dt),
            method=self.settings.solver,
            adjoint=adjoint,
            weighted=weighted,
        )

    def _seen(self, times: F, z: F, rng: np.random.Generator) -> Paths:
        decoder = self.module.decoder
        if not np.isfinite(z).all():
            raise SettingsError(
                f"paths ran off to infinity at steps of dt = {self.dt:g}. Choose a smaller dt, or train for "
                f"longer."
            )
        with torch.no_grad():
            out = decoder(torch.from_numpy(z))
            signal = decoder.likelihood.mean(out, decoder.free).numpy()
        return Paths(
            times, z, signal, self.likelihood.sample(out.numpy(), decoder.free.detach().numpy(), rng)
        )
