"""A variational autoencoder of sentences. Bowman et al. (2016), 1511.06349.

    z ~ N(0, I),  x ~ prod_t p(x_t | x_1 .. x_{t-1}, z),     q(z | x) by the encoder

    maximise  sum_i E_q[log p(x_i | z)] - KL_i

A writer that sees all words before the next one can do without z, and training then switches z off: the KL
collapses to zero, and all sentences share one place. Three things keep z in use: a warm-up of the KL,
`free_bits`, and `word_dropout`, which hides words from the writer in training only. What is evaluated is the
model that sees every word.

A file holds weights, words, sizes, history, and the terms of the bound of four sentences, which must come out
on loading.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Unpack, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sbi_flows.arrays import F, integer, real, rows_of
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.files import Arrays, Manifest, ModelFormat, fingerprint, under
from sbi_flows.flows.sampling import SamplingKind
from sbi_flows.rng import check_seed, stream, torch_scope
from sbi_flows.training.history import History
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.bounds import Elbo, Evidence, elbo, evidence, log_weights
from sbi_flows.vae.fitting import FitOptions, Fitting, fit_bound, restored_on_error
from sbi_flows.vae.interpolation import path_between
from sbi_flows.vae.objective import NoisyRows, check_enough
from sbi_flows.vae.text.network import SentenceNetwork, SentenceSettings
from sbi_flows.vae.text.words import Sentence, Vocabulary, sentences_of

_FILE = ModelFormat("sentence autoencoder", loader="vae.SentenceVAE.load")
_CHECKED_SENTENCES, _CHECKED_DRAWS = 4, 8
_DRAWS_OF_A_MEAN = 64


class SentenceVAE:
    """A variational autoencoder of sentences with `latent` numbers z.

    encoder: "diagonal", "full_rank", "planar", "iaf", "coupling" or "spline_coupling".
    seed: the starting weights and all that is random in `fit` are a function of it.
    most_words: per sentence, None for the longest that the first `fit` is given; its words too are those of
    that call.
    settings: sizes of the networks.

    Sentences come in as a list, each a string, cut at white space, or a list of words (`list("CCO")` makes
    each letter a word), and go out as lists of words.
    """

    def __init__(
        self,
        *,
        latent: int,
        encoder: str = "diagonal",
        seed: int = 0,
        most_words: int | None = None,
        settings: SentenceSettings | None = None,
    ) -> None:
        self.latent, self.encoder, self.seed = integer("latent", latent), encoder, check_seed(seed)
        self.most_words = None if most_words is None else integer("most_words", most_words)
        self.settings = SentenceSettings() if settings is None else settings
        if not isinstance(self.settings, SentenceSettings):
            raise SettingsError(f"settings must be vae.SentenceSettings(...), got {settings!r}.")
        if not isinstance(encoder, str) or encoder not in get_args(SamplingKind):
            raise SettingsError(
                f"encoder must be one of {', '.join(get_args(SamplingKind))}, got {encoder!r}."
            )
        self.history = History()
        self._vocabulary: Vocabulary | None = None
        self._module: SentenceNetwork | None = None

    def fit(
        self,
        x_train: Iterable[Sentence],
        x_valid: Iterable[Sentence] | None = None,
        *,
        word_dropout: float = 0.0,
        **options: Unpack[FitOptions],
    ) -> History:
        """Train on x_train; keep the weights whose bound on x_valid (else a tenth of x_train) is best after
        warm-up.

        word_dropout: the share of words that the writer is not told in training.
        Options, by name (`vae.fitting.FitOptions` explains each): epochs (30), warmup, free_bits, draws,
        train_settings, checkpoint, progress. A second call, and a call that is refused or interrupted, are as
        in `vae.VAE.fit`. Raises `ShapeError`, `ObservationError`, `SettingsError`, `TooFewSimulationsError`,
        `NonFiniteLossError`, and `BankMismatchError` for the checkpoint of another run.
        """
        fitting = Fitting.of(options, epochs=30, without=("frozen",))
        word_dropout = real("word_dropout", word_dropout, most=1.0)
        sentences = sentences_of(x_train, "x_train")
        check_enough(len(sentences), x_valid is None)
        with restored_on_error(self, self._module):
            if self._vocabulary is None:
                self._vocabulary = Vocabulary.of(sentences, self.most_words)
            x = self._tokens(sentences, "x_train")
            valid = None if x_valid is None else self._tokens(x_valid, "x_valid")
            module = self.module
            training, noise = fitting.training(training_for(fitting.epochs)), (fitting.draws, self.latent)
            rows = NoisyRows(x, valid, training, self.seed, fitting.warmup, noise)
            identity = {
                "free_bits": fitting.free_bits,
                "word_dropout": word_dropout,
                "encoder": self.encoder,
                "words": fingerprint(asdict(self._vocabulary)),
            }
            module.decoder.dropout = word_dropout
            self.history = fit_bound(module, rows, fitting, identity)
        return self.history

    def elbo(self, x: Iterable[Sentence], n: int = 64, *, seed: int = 0) -> Elbo:
        """The bound on log p(x) of each sentence and its terms, in nats, from n draws of z; the KL in closed
        form for Gaussian encoders.
        """
        return elbo(self.module, self._tokens(x), integer("n", n), stream(check_seed(seed), "elbo"))

    def log_evidence(self, x: Iterable[Sentence], n: int = 500, *, seed: int = 0) -> Evidence:
        """log p(x) of each sentence, its end included, by importance sampling from q, with standard error and
        k-hat, in nats.
        """
        return evidence(self.log_weights(x, n, seed=seed))

    def log_weights(self, x: Iterable[Sentence], n: int, *, seed: int = 0) -> F:
        """log p(x, z) - log q(z | x) of n draws from q for each sentence, (rows, n), in nats."""
        return log_weights(
            self.module, self._tokens(x), integer("n", n), stream(check_seed(seed), "weights of draws")
        )

    def encode(self, x: Iterable[Sentence], n: int = 1, *, seed: int = 0) -> F:
        """n draws from q(z | x) for each sentence, (rows, n, latent)."""
        tokens = self._tokens(x)
        return self._draws(
            tokens,
            stream(check_seed(seed), "encode").standard_normal((len(tokens), integer("n", n), self.latent)),
        )

    def latent_mean(self, x: Iterable[Sentence]) -> F:
        """E[z | x] under q for each sentence, (rows, latent): exact for Gaussian encoders, else the mean of
        64 draws in opposite pairs.
        """
        tokens = self._tokens(x)
        half = stream(0, "latent mean").standard_normal((1, _DRAWS_OF_A_MEAN // 2, self.latent))
        return np.asarray(
            self._draws(tokens, np.concatenate([half, -half], axis=1).repeat(len(tokens), axis=0)).mean(
                axis=1
            )
        )

    def decode(self, z: ArrayLike) -> list[list[str]]:
        """For each row of z (rows, latent) the sentence that takes the most probable word at each place."""
        return self._written(rows_of(z, (self.latent,), "z"), None)

    def draw(self, z: ArrayLike, *, seed: int = 0) -> list[list[str]]:
        """A draw from p(x | z) for each row of z (rows, latent)."""
        return self._written(rows_of(z, (self.latent,), "z"), stream(check_seed(seed), "draw"))

    def log_likelihood(self, x: Iterable[Sentence], z: ArrayLike) -> F:
        """log p(x | z) of each pair of a sentence and a row of z, its end included, (rows,), in nats."""
        tokens, places = self._tokens(x), rows_of(z, (self.latent,), "z")
        if len(tokens) != len(places) and 1 not in (len(tokens), len(places)):
            raise ShapeError(
                f"x and z must have as many rows as one another, or one; got {len(tokens)} and {len(places)}."
            )
        rows = max(len(tokens), len(places))
        with torch.no_grad():
            found = self.module.decoder.log_prob(
                tokens.expand(rows, -1), torch.from_numpy(places).expand(rows, -1)[:, None]
            )
        return found[:, 0].numpy()

    def reconstruct(self, x: Iterable[Sentence]) -> list[list[str]]:
        """For each sentence the most probable words at z = E[z | x]."""
        return self.decode(self.latent_mean(x))

    def sample(self, n: int, *, seed: int = 0) -> list[list[str]]:
        """n draws from p(x): z from the prior, then word by word."""
        rng = stream(check_seed(seed), "sample")
        return self._written(rng.standard_normal((integer("n", n), self.latent)), rng)

    def interpolate(self, a: Sentence, b: Sentence, steps: int, *, path: str = "linear") -> list[list[str]]:
        """Sentences along the "linear" or "spherical" path from E[z | a] to E[z | b], both ends included,
        decoded as in `decode`.
        """
        ends = self.latent_mean([a, b])
        return self.decode(path_between(ends[0], ends[1], integer("steps", steps, 2), path))

    def active_units(self, x: Iterable[Sentence], least: float = 0.01) -> NDArray[np.bool_]:
        """Which latent dimensions say anything about x: those with Var_x E[z_j | x] > least, (latent,)."""
        return np.asarray(self.latent_mean(x).var(axis=0) > least)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, whole or not at all; `SentenceVAE.load` makes the same autoencoder
        from it.
        """
        x = self.sample(_CHECKED_SENTENCES, seed=0)
        record = {
            "latent": self.latent,
            "encoder": self.encoder,
            "seed": self.seed,
            "most_words": self.most_words,
            "words": list(self.vocabulary.words),
            "most": self.vocabulary.most,
            "settings": self.settings.to_json(),
            "history": asdict(self.history),
        }
        checks = {"x": self.vocabulary.tokens(x, "x"), **self.elbo(x, _CHECKED_DRAWS, seed=0).terms}
        _FILE.save(path, record, {"net": self.module.state_dict()}, checks)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SentenceVAE:
        """What `save` wrote. Raises `StorageError`, `CorruptFileError` (also if its check values do not come
        out), `FormatVersionError`.
        """

        def rebuilt(record: Manifest, arrays: Arrays) -> SentenceVAE:
            settings = SentenceSettings.from_json(record["settings"])
            named = {name: record[name] for name in ("latent", "encoder", "seed", "most_words")}
            model = cls(**named, settings=settings)
            model._vocabulary = Vocabulary(tuple(record["words"]), record["most"])
            leaves = under("net", arrays).items()
            model.module.load_state_dict({name: torch.from_numpy(value) for name, value in leaves})
            model.history = History(**record["history"])
            return model

        def check(model: SentenceVAE, checks: Arrays) -> Arrays:
            return model.elbo(model.vocabulary.sentences(checks["x"]), _CHECKED_DRAWS, seed=0).terms

        return _FILE.load(path, rebuilt, check)

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that it knows, sorted, and how many a sentence has at most. Raises `SettingsError` before
        `fit`.
        """
        if self._vocabulary is None:
            raise SettingsError(
                "the model takes its words from the sentences that it is trained on. Call fit(sentences) "
                "first."
            )
        return self._vocabulary

    @property
    def module(self) -> SentenceNetwork:
        """The networks, in float64. Raises `SettingsError` before `fit`."""
        if self._module is None:
            self._module = self._built(self.vocabulary)
        return self._module

    def _built(self, vocabulary: Vocabulary) -> SentenceNetwork:
        with torch_scope(stream(self.seed, "weights")):
            return SentenceNetwork(vocabulary, self.latent, self.encoder, self.settings).double().eval()

    def _tokens(self, x: Iterable[Sentence], name: str = "x") -> torch.Tensor:
        return torch.from_numpy(self.vocabulary.tokens(sentences_of(x, name), name))

    def _draws(self, tokens: torch.Tensor, noise: F) -> F:
        with torch.no_grad():
            z, _ = self.module.encoder.draw(self.module.encoder.context(tokens), torch.from_numpy(noise))
        return np.asarray(z.numpy())

    def _written(self, z: F, rng: np.random.Generator | None) -> list[list[str]]:
        uniform = None if rng is None else torch.from_numpy(rng.random((len(z), self.vocabulary.most)))
        with torch.no_grad():
            return self.vocabulary.sentences(self.module.decoder.write(torch.from_numpy(z), uniform).numpy())


def training_for(epochs: int) -> TrainSettings:
    """AdamW at 2e-3 down to zero along a cosine, batches of 64, no early stop."""
    return TrainSettings(epochs=epochs, batch_size=64, learning_rate=2e-3, patience=max(epochs, 1))
