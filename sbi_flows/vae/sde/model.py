"""A latent SDE fitted to series: a hidden state moves by a stochastic differential equation and is seen at
some times, with noise.

    dz = h(z, t) dt + g(z, t) dW,  x_k ~ p(x | decoder(z(t_k)))
    log p(x_0, ..., x_{T-1}) >= the bound of `sde.bound`

Li et al. (2020), 2001.01328. Weights are trained in float32 by the loop of `training`; all that is evaluated
is in float64. A file holds weights, sizes, clock, history, and the terms of the bound of four series, which
must come out on loading.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Unpack

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from sbi_flows.arrays import F, integer
from sbi_flows.errors import ObservationError, SettingsError, ShapeError
from sbi_flows.files import Arrays, Manifest, ModelFormat, under
from sbi_flows.rng import check_seed, stream
from sbi_flows.training.history import History
from sbi_flows.training.rows import digest
from sbi_flows.vae.bounds import Elbo, Evidence, chunks, elbo, evidence, log_weights
from sbi_flows.vae.fitting import FitOptions, Fitting, fit_bound
from sbi_flows.vae.likelihoods import check_values, from_json, to_json
from sbi_flows.vae.objective import NoisyRows, check_enough
from sbi_flows.vae.sde.built import BuiltSDE, by_the_users_modules, check_modules
from sbi_flows.vae.sde.paths import Paths
from sbi_flows.vae.sde.prior import PriorSDE
from sbi_flows.vae.sde.series import Series, times_of
from sbi_flows.vae.sde.settings import SDESettings, training_for

_FILE = ModelFormat("latent SDE", loader="vae.LatentSDE.load")
_CHECKED_SERIES, _CHECKED_PATHS = 4, 4
_CHECKED_STEPS = np.array([0.0, 2.0, 3.0, 6.0])


class LatentSDE(BuiltSDE):
    """Series of `features` numbers at each time, driven by an SDE of `latent` numbers.

    likelihood: as of `vae.VAE`.
    prior: `vae.PriorSDE(...)`, a drift or a diffusion of your own, and where z starts.
    decoder: your own module (rows, latent) -> (rows, heads, features), as of `vae.VAE`.
    settings: steps, sizes and kinds, `vae.SDESettings(...)`.
    seed: the starting weights and all that is random in `fit` are a function of it.

    Series x are (n, T, features), or one (T, features), with NaN (or masked) where an element was not
    observed. times are (T,), shared, or (n, T), one row per series, and increase; a shorter series has NaN at
    its last times.
    """

    def fit(
        self,
        times: ArrayLike,
        x_train: ArrayLike,
        x_valid: ArrayLike | None = None,
        *,
        times_valid: ArrayLike | None = None,
        **options: Unpack[FitOptions],
    ) -> History:
        """Train on series x_train and keep the weights whose bound on x_valid (a tenth of x_train unless
        given) is best after the warm-up.

        times_valid: of x_valid, where they are not `times`.
        Options, by name (`vae.fitting.FitOptions` explains each): epochs (300), warmup, draws (paths per
        series and step), frozen ("model", all of p(x, z), or "encoder", all of q), train_settings,
        checkpoint, progress.

        A second call continues with the weights, and in the units, of the first. A call that is refused or
        interrupted leaves the model as it was. Raises `ShapeError`, `ObservationError`, `SettingsError`,
        `TooFewSimulationsError`, `NonFiniteLossError`, and `BankMismatchError` for the checkpoint of another
        run.
        """
        fitting = Fitting.of(options, epochs=300, frozen=("model", "encoder"), without=("free_bits",))
        series, valid = self._parts((times, x_train), x_valid, times_valid)
        with self._restored_on_error():
            filled = series.filled()
            self.likelihood = self.likelihood.completed(filled)
            for part in (filled,) if valid is None else (filled, valid.filled()):
                check_values(self.likelihood, part)
            paths = self._module = self._module or self._built(self.likelihood)
            if not self.scaled:
                self._scale(paths, series, filled, fitting.frozen)
            gaussian, centre = self.likelihood.name == "gaussian", paths.reader.centre
            offset = centre.clone() if gaussian else torch.zeros_like(centre)
            all_times = [part.times for part in (series, valid) if part is not None]
            steps = self._on_steps(np.concatenate(all_times), adjoint=self.settings.adjoint)
            near = None if valid is None else self._packed(valid, offset).float()
            training, noise = (
                fitting.training(training_for(fitting.epochs)),
                (fitting.draws, steps.noise_width),
            )
            x = self._packed(series, offset).float()
            rows = NoisyRows(x, near, training, self.seed, fitting.warmup, noise)
            identity = {
                "frozen": fitting.frozen,
                "settings of the model": self.settings.to_json(),
                "steps": steps.counts.tolist(),
                "origin": self.origin,
                "unit": self.unit,
                "likelihood": to_json(self.likelihood),
                "offset": digest([offset]),
            }
            paths.shift(-offset)
            fixed = paths.parameters_of(fitting.frozen)
            self.history = fit_bound(steps, rows, fitting, identity, undecayed=self._undecayed(), fixed=fixed)
            paths.shift(offset)
        return self.history

    def _parts(
        self, train: tuple[ArrayLike, ArrayLike], x_valid: ArrayLike | None, times_valid: ArrayLike | None
    ) -> tuple[Series, Series | None]:
        """The series to train on, given as (times, x), and those that are held out."""
        if times_valid is not None and x_valid is None:
            raise SettingsError("times_valid has no x_valid to go with. Pass both, or neither.")
        times, x_train = train
        series = Series.of(times, x_train, self.features, "x_train")
        check_enough(len(series), x_valid is None)
        if x_valid is None:
            return series, None
        valid = Series.of(times if times_valid is None else times_valid, x_valid, self.features, "x_valid")
        if valid.times.shape[1] != series.times.shape[1]:
            raise ShapeError(
                "x_train and x_valid must have as many times as one another, got "
                f"{series.times.shape[1]} and {valid.times.shape[1]}. Pad the shorter with NaN."
            )
        return series, valid

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
        also where x has NaN there), where the prior takes them.
        """
        series = self._series(times, x)
        wanted = times_of(beyond, len(series), None, "beyond")
        if (wanted[:, :1] < series.times[:, -1:]).any():
            row = int(np.argmax(wanted[:, 0] < series.times[:, -1]))
            raise ObservationError(
                f"times beyond series {row} start at its last, {series.times[row, -1]:g}, got "
                f"{wanted[row, 0]:g}. For those before, reconstruct(times, x, at=...)."
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
        """Write everything to one file, whole or not at all; `vae.LatentSDE.load` makes the same model from
        it.
        """
        times = self.origin + _CHECKED_STEPS * (self.dt or 1.0)
        x = self.sample(times, _CHECKED_SERIES, seed=0)
        record = {
            "features": self.features,
            "latent": self.latent,
            "likelihood": to_json(self.likelihood),
            "seed": self.seed,
            "settings": self.settings.to_json(),
            "own": self.own,
            "clock": {"dt": self.dt, "origin": self.origin, "unit": self.unit, "scaled": self.scaled},
            "history": asdict(self.history),
        }
        checks = {"times": times, "x": x, **self.elbo(times, x, _CHECKED_PATHS, seed=0).terms}
        _FILE.save(path, record, {"net": self.module.state_dict()}, checks)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, prior: PriorSDE | None = None, decoder: nn.Module | None = None
    ) -> LatentSDE:
        """The model that `save` wrote; modules like those of your own that it was made with are passed in
        again.

        Raises `StorageError`, `CorruptFileError` (also if the check values do not come out),
        `FormatVersionError`, `SettingsError`.
        """
        given = {"drift": prior and prior.drift, "diffusion": prior and prior.diffusion, "decoder": decoder}

        def rebuilt(record: Manifest, arrays: Arrays) -> LatentSDE:
            check_modules(path, record.get("own", {}), given)
            with by_the_users_modules(path, given):
                return cls._rebuilt(record, arrays, prior, decoder)

        def check(model: LatentSDE, checks: Arrays) -> Arrays:
            with by_the_users_modules(path, given):
                return model.elbo(checks["times"], checks["x"], _CHECKED_PATHS, seed=0).terms

        return _FILE.load(path, rebuilt, check)

    @classmethod
    def _rebuilt(
        cls, record: Manifest, arrays: Arrays, prior: PriorSDE | None, decoder: nn.Module | None
    ) -> LatentSDE:
        model = cls(
            features=record["features"],
            latent=record["latent"],
            likelihood=from_json(record["likelihood"]),
            seed=record["seed"],
            prior=prior,
            decoder=decoder,
            settings=SDESettings.from_json(record["settings"]),
        )
        leaves = under("net", arrays).items()
        model.module.load_state_dict({name: torch.from_numpy(value) for name, value in leaves})
        vars(model).update({name: record["clock"][name] for name in ("dt", "origin", "unit", "scaled")})
        model.module.set_clock(model.origin, model.unit)
        model.history = History(**record["history"])
        return model

    def _series(self, times: ArrayLike, x: ArrayLike) -> Series:
        series = Series.of(times, x, self.features)
        check_values(self.likelihood, series.values())
        return series

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
