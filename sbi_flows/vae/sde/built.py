"""What a latent SDE is made of: its networks, built from the settings, the units of the data, and its
clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from torch import Tensor, nn

from sbi_flows.arrays import F, integer
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.files import Manifest, RefusedError
from sbi_flows.flows.sampling import GAUSSIAN_KINDS, build_sampling_flow
from sbi_flows.nets.vector import VectorSummary
from sbi_flows.rng import check_seed, stream, torch_scope
from sbi_flows.training.history import History
from sbi_flows.vae.fitting import built, restored_on_error
from sbi_flows.vae.likelihoods import Likelihood, likelihood_of
from sbi_flows.vae.network import Decoder, check_decoder, set_seen_units
from sbi_flows.vae.sde.bound import GenerativeNetworks, LatentPaths, OnSteps, PosteriorNetworks
from sbi_flows.vae.sde.networks import BackwardEncoder, Control, Diffusion, Drift, Own
from sbi_flows.vae.sde.prior import PriorSDE, check_field
from sbi_flows.vae.sde.series import Series, steps_between
from sbi_flows.vae.sde.settings import SDESettings

_STEPS_PER_SPAN = 100


class BuiltSDE:
    """The part of `vae.LatentSDE` that holds networks, units and clock."""

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

    @property
    def own(self) -> dict[str, bool]:
        """Which modules are the user's."""
        given = {"drift": self._prior.drift, "diffusion": self._prior.diffusion, "decoder": self._decoder}
        return {name: module is not None for name, module in given.items()}

    @property
    def module(self) -> LatentPaths:
        """The networks, in float64. Raises `SettingsError` where they wait for data."""
        return built(self._module, self.likelihood, "fit(times, x_train)")

    @contextmanager
    def _restored_on_error(self) -> Iterator[None]:
        try:
            with restored_on_error(
                self, self._module, self._prior.drift, self._prior.diffusion, self._decoder
            ):
                yield
        except BaseException:
            if self._module is not None:
                self._module.set_clock(self.origin, self.unit)
            raise

    def _built(self, likelihood: Likelihood) -> LatentPaths:
        d, m, sizes, own = self.latent, self.features, self.settings, self._prior
        mean, sd = own.start(d)
        with torch_scope(stream(self.seed, "weights")):
            drift = Own(own.drift, 1.0) if own.drift else Drift(d, sizes.width, timed=sizes.timed)
            learned = {"constant": sizes.diffusion == "constant", "timed": sizes.timed}
            diffusion = (
                Own(own.diffusion, 0.5) if own.diffusion else Diffusion(d, sizes.width // 4 or 1, **learned)
            )
            control = Control(d, sizes.context, sizes.width, mean, sd)
            reader = BackwardEncoder(m, sizes.context, counts=likelihood.name == "poisson")
            flow = build_sampling_flow(sizes.encoder, d, sizes.context, width=sizes.width // 2 or 1)
            net = self._decoder or VectorSummary(d, likelihood.heads * m, sizes.width)
        kind = sizes.encoder if sizes.encoder in GAUSSIAN_KINDS else ""
        decoder = Decoder(net, likelihood, m)
        model = GenerativeNetworks(drift, diffusion, (mean, sd), decoder)
        paths = LatentPaths(model, PosteriorNetworks(control, reader, flow, kind))
        paths = paths.double().eval()
        for name, field in (("drift", own.drift), ("diffusion", own.diffusion)):
            if field is not None:
                check_field(name, field, d)
        if self._decoder is not None:
            check_decoder(net, d, likelihood.heads, m)
        return paths

    def _scale(self, paths: LatentPaths, series: Series, filled: F, frozen: str | None) -> None:
        """Bring the networks to the units of the data, and choose the unit of time and the step."""
        seen = np.log1p(filled) if paths.reader.counts else filled
        set_seen_units(paths.reader, seen, each=self.likelihood.name == "gaussian")
        if frozen != "model":
            paths.decoder.set_units(self.likelihood.start(filled), own=self._decoder is not None)
        self.origin, span, gap = series.clock()
        # Between the time scales of what is seen once a series and what is seen from one time to the next.
        self.unit = float(np.sqrt(span * gap))
        self.dt = self.dt or span / _STEPS_PER_SPAN
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


def check_modules(path: object, own: Manifest, given: Mapping[str, object]) -> None:
    """Raise `SettingsError`, as a refusal, unless the modules are those that the file needs."""
    for name, module in given.items():
        if bool(own.get(name)) != (module is not None):
            place = f"prior=vae.PriorSDE({name}=...)" if name != "decoder" else "decoder=..."
            wanted = f"the {name} module that it was made with: vae.LatentSDE.load(path, {place})"
            wanted = wanted if own.get(name) else f"no {name} module"
            raise RefusedError(SettingsError(f"{path} holds a latent SDE that needs {wanted}."))


@contextmanager
def by_the_users_modules(path: object, given: Mapping[str, object]) -> Iterator[None]:
    """Where modules were passed, they and not the file are at fault."""
    try:
        yield
    except (SettingsError, ShapeError) as error:
        passed = ", ".join(name for name, module in given.items() if module is not None)
        if not passed:
            raise
        message = f"{path} cannot be made with the modules that were passed ({passed}): {error}"
        raise RefusedError(SettingsError(message)) from error
