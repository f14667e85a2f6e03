"""A variational autoencoder of sentences. Bowman et al. (2016), 1511.06349.

    z ~ N(0, I),  x ~ prod_t p(x_t | x_1 .. x_{t-1}, z),     q(z | x) by the encoder,     maximise  sum_i
    E_q[log p(x_i | z)] - KL_i

A writer that sees all words before the next one can do without z, and on its way there training switches z
off: the KL collapses to zero, and all sentences lie at one place. Three things keep z in use: a warm-up of
the KL, `free_bits`, and `word_dropout`, which hides words from the writer in training only. What is evaluated
is the model that sees every word.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sbi_flows.arrays import F, integer, real, rows_of
from sbi_flows.errors import SettingsError, ShapeError
from sbi_flows.files import fingerprint
from sbi_flows.flows.sampling import SamplingKind
from sbi_flows.machine import torch_threads
from sbi_flows.rng import check_seed, stream, torch_scope
from sbi_flows.training.history import History
from sbi_flows.training.loop import TrainOptions, train
from sbi_flows.training.settings import TrainSettings
from sbi_flows.vae.bounds import Elbo, Evidence, elbo, evidence, log_weights
from sbi_flows.vae.latent import path_between
from sbi_flows.vae.objective import NoisyRows, check_enough, loss_with
from sbi_flows.vae.text.network import SentenceNetwork, SentenceSettings
from sbi_flows.vae.text.words import Sentence, Vocabulary, sentences_of
from sbi_flows.vae.warmup import Warmup, warmup_of

_DRAWS_OF_A_MEAN = 64


class SentenceVAE:
    """A variational autoencoder of sentences with `latent` numbers z.

    encoder: "diagonal", "full_rank", "planar", "iaf", "coupling" or "spline_coupling". seed: the weights at
    the start and all that is random in `fit` are a function of it. most_words: of a sentence, None for the
    longest that the first `fit` is given; its words too are those of that call. settings: sizes of the
    networks.

    Sentences come in as a list, each a string, cut at white space, or a list of words (`list("CCO")` for a
    word a letter), and go out as lists of words.
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
        epochs: int = 30,
        warmup: int | Warmup = 0,
        free_bits: float = 0.0,
        word_dropout: float = 0.0,
        draws: int = 1,
        train_settings: TrainSettings | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> History:
        """Train on x_train and keep the weights whose bound on x_valid (a tenth of x_train unless given) is
        best after the warm-up.

        word_dropout: the share of words that the writer is not told in training. train_settings: in place of
        `vae.sentences.training_for`. The other arguments, a second call, and a call that is refused or
        interrupted are as in `vae.VAE.fit`. Raises `ShapeError`, `ObservationError`, `SettingsError`,
        `TooFewSimulationsError`, `NonFiniteLossError`, and `BankMismatchError` for the checkpoint of another
        run.
        """
        free_bits, epochs, draws = (
            real("free_bits", free_bits),
            integer("epochs", epochs),
            integer("draws", draws),
        )
        word_dropout, schedule = real("word_dropout", word_dropout), warmup_of(warmup)
        if word_dropout > 1:
            raise SettingsError(f"word_dropout must be a share of words, from 0 to 1, got {word_dropout!r}.")
        if schedule.epochs >= epochs:
            raise SettingsError(
                f"the warm-up of {schedule.epochs} epochs must end before training does, after {epochs} "
                f"epochs."
            )
        if not (train_settings is None or isinstance(train_settings, TrainSettings)):
            raise SettingsError(f"train_settings must be sf.TrainSettings(...), got {train_settings!r}.")
        sentences = sentences_of(x_train, "x_train")
        check_enough(len(sentences), x_valid is None)
        settings = replace(train_settings, epochs=epochs) if train_settings else training_for(epochs)
        with self._unchanged_unless_done():
            if self._vocabulary is None:
                self._vocabulary = Vocabulary.of(sentences, self.most_words)
            x = self._tokens(sentences, "x_train")
            valid = None if x_valid is None else self._tokens(x_valid, "x_valid")
            if self._module is None:
                self._module = self._built(self._vocabulary)
            module = self._module
            rows = NoisyRows(x, valid, settings, self.seed, schedule, (draws, self.latent))
            options = {
                "free_bits": free_bits,
                "word_dropout": word_dropout,
                "warmup": asdict(schedule),
                "encoder": self.encoder,
            }
            try:
                module.float()
                module.decoder.dropout = word_dropout
                with torch_threads(1):
                    self.history = train(
                        module,
                        loss_with(free_bits),
                        rows,
                        TrainOptions(
                            compare_from=schedule.epochs,
                            checkpoint=checkpoint,
                            identity={**options, "words": fingerprint(asdict(self._vocabulary))},
                            progress=progress,
                        ),
                    )
            finally:
                module.double().eval()
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
        """Write everything to one file, from which `SentenceVAE.load` makes the same autoencoder."""
        from sbi_flows.vae.text.load import save_sentence_vae

        save_sentence_vae(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SentenceVAE:
        """What `save` wrote. Raises `StorageError`, `CorruptFileError` (also if its check values do not come
        out), `FormatVersionError`.
        """
        from sbi_flows.vae.text.load import load_sentence_vae

        return load_sentence_vae(path)

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

    @contextmanager
    def _unchanged_unless_done(self) -> Iterator[None]:
        """Everything as it was before, weights included, where the block does not come to its end."""
        before = self._vocabulary, self._module, self.history
        weights = (
            None
            if self._module is None
            else {name: value.clone() for name, value in self._module.state_dict().items()}
        )
        try:
            yield
        except BaseException:
            self._vocabulary, self._module, self.history = before
            if self._module is not None and weights is not None:
                self._module.load_state_dict(weights)
            raise

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
    """AdamW at 2e-3 down to zero along a cosine, batches of 64, no stop before the end."""
    return TrainSettings(epochs=epochs, batch_size=64, learning_rate=2e-3, patience=max(epochs, 1))
