"""The two networks of a sentence autoencoder: a reader and a writer.

    q(z | x) = flow(z | s(x)),  s(x) linear in a recurrent network's last state and the mean of its states
    p(x | z) = prod_t p(x_t | x_1 .. x_{t-1}, z),  t = 1 .. T + 1,  x_{T+1} the end

The writer's state starts at a function of z, and z is an input at each step. No sentence is empty, and one of
`most` words ends with certainty, so p(x | z) sums to one over the sentences of 1 to `most` words. Word
dropout hides each previous word from the writer with a given probability in training, so that the writer has
to use z. Bowman et al. (2016), 1511.06349; the recurrent unit is that of Cho et al. (2014), 1406.1078.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sbi_flows.arrays import renamed
from sbi_flows.flows.conditional import log_standard_normal
from sbi_flows.flows.sampling import GAUSSIAN_KINDS, build_sampling_flow
from sbi_flows.vae.network import Terms, gaussian_kl
from sbi_flows.vae.settings import OLD_NAMES, Sizes
from sbi_flows.vae.text.words import Vocabulary

_FIRST_LOG_SD = -1.0
_NUMBERS_AT_ONCE = 10_000_000


@renamed(**OLD_NAMES)
@dataclass(frozen=True, kw_only=True)
class SentenceSettings(Sizes):
    """embedding: numbers per word; width: of the reader and of the writer.

    summary_features: length of s(x), None for twice the latent numbers.
    flow_width, layers: width and number of the layers of a flow encoder.
    """

    embedding: int = 32
    width: int = 64
    summary_features: int | None = None
    flow_width: int = 32
    layers: int = 4


class Reading(nn.Module):
    """s(x) of rows of tokens, (rows, T) to (rows, features). Padding after the end has no effect."""

    def __init__(self, words: int, features: int, settings: SentenceSettings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words + 1, settings.embedding)
        self.unit = nn.GRU(settings.embedding, settings.width, batch_first=True)
        self.linear = nn.Linear(2 * settings.width, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, x: Int[Tensor, "rows T"]) -> Float[Tensor, "rows features"]:
        length = (x != 0).sum(dim=1)
        x = x[:, : int(length.max())]
        states, _ = self.unit(self.embedding(x))
        mean = torch.where((x != 0)[..., None], states, 0.0).sum(dim=1) / length[:, None]
        out: Tensor = self.norm(
            self.linear(torch.cat([states[torch.arange(len(x)), length - 1], mean], dim=1))
        )
        return out


class Reader(nn.Module):
    """q(z | x) of sentences. gaussian: the kind of flow where q is a Gaussian, else ""."""

    def __init__(self, words: int, latent: int, kind: str, settings: SentenceSettings) -> None:
        super().__init__()
        features = settings.summary_features or 2 * latent
        self.summary = Reading(words, features, settings)
        self.flow = build_sampling_flow(
            kind, latent, features, width=settings.flow_width, layers=settings.layers
        )
        self.gaussian = kind if kind in GAUSSIAN_KINDS else ""
        # A writer that sees only noise in z learns to ignore it. So q starts narrow, with a mean that
        # depends on x.
        weight, bias = self.flow.layers[0].parameters()
        with torch.no_grad():
            weight[:latent].normal_(std=features**-0.5)
            bias[latent:] = _FIRST_LOG_SD

    def context(self, x: Int[Tensor, "rows T"]) -> Float[Tensor, "rows k"]:
        """s(x)."""
        out: Tensor = self.summary(x)
        return out

    def draw(
        self, context: Float[Tensor, "rows k"], noise: Float[Tensor, "rows n d"]
    ) -> tuple[Float[Tensor, "rows n d"], Float[Tensor, "rows n"]]:
        """n differentiable draws z per context, and log q(z | x)."""
        return self.flow.draw(noise, context[:, None])


class Writer(nn.Module):
    """p(x | z) of sentences of 1 to `most` words, from a vocabulary of `words` words.

    As an output, token 0 is the end; as a previous word, it is the beginning, and words + 1 a hidden word.
    """

    def __init__(self, words: int, most: int, latent: int, settings: SentenceSettings) -> None:
        super().__init__()
        self.words, self.most = words, most
        self.dropout = 0.0
        self.embedding = nn.Embedding(words + 2, settings.embedding)
        self.start = nn.Linear(latent, settings.width)
        self.unit = nn.GRU(settings.embedding + latent, settings.width, batch_first=True)
        self.head = nn.Linear(settings.width, words + 1)

    def log_prob(self, x: Int[Tensor, "rows T"], z: Float[Tensor, "rows n d"]) -> Float[Tensor, "rows n"]:
        """log p(x | z) per row of x and each of its n z, in nats, the end included."""
        n = z.shape[1]
        length = int((x != 0).sum(dim=1).max())
        x = x[:, : min(length + 1, self.most)].repeat_interleave(n, dim=0)
        at_once = max(1, _NUMBERS_AT_ONCE // (x.shape[1] * (self.words + 4 * self.head.in_features)))
        parts = zip(x.split(at_once), z.reshape(len(x), -1).split(at_once), strict=True)
        return torch.cat([self._log_prob(*part) for part in parts]).reshape(-1, n)

    def _log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        previous = nn.functional.pad(x[:, :-1], (1, 0))
        if self.training and self.dropout > 0:
            hidden = (torch.rand(previous.shape) < self.dropout) & (previous != 0)
            previous = torch.where(hidden, self.words + 1, previous)
        logits, _ = self._logits(previous, z, self._first(z))
        logits[:, 0, 0] = -torch.inf
        each = torch.log_softmax(logits, dim=-1).gather(-1, x[..., None])[..., 0]
        # A position counts if the sentence has not ended before it.
        counts = nn.functional.pad(x[:, :-1] != 0, (1, 0), value=True)
        return torch.where(counts, each, 0.0).sum(dim=1)

    def write(
        self, z: Float[Tensor, "rows d"], uniform: Float[Tensor, "rows most"] | None
    ) -> Int[Tensor, "rows most"]:
        """A sentence per z: each word is the most probable one given those before it or, with `uniform`, is
        drawn by inverting its distribution function.
        """
        x = torch.zeros(len(z), self.most, dtype=torch.int64)
        state, unfinished = self._first(z), torch.ones(len(z), dtype=torch.bool)
        previous = torch.zeros(len(z), 1, dtype=torch.int64)
        for t in range(self.most):
            logits, state = self._logits(previous, z, state)
            logits = logits[:, 0]
            if t == 0:
                logits[:, 0] = -torch.inf
            if uniform is None:
                chosen = logits.argmax(dim=1)
            else:
                cumulative = torch.softmax(logits, dim=1).cumsum(dim=1)
                below = cumulative <= uniform[:, t, None] * cumulative[:, -1:]
                chosen = below.sum(dim=1).clamp(max=self.words)
            x[:, t] = torch.where(unfinished, chosen, 0)
            unfinished = unfinished & (chosen != 0)
            previous = chosen[:, None]
            if not unfinished.any():
                break
        return x

    def _first(self, z: Tensor) -> Tensor:
        return torch.tanh(self.start(z))[None]

    def _logits(self, previous: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([self.embedding(previous), z[:, None].expand(-1, previous.shape[1], -1)], dim=-1)
        states, last = self.unit(inputs, state)
        return self.head(states), last


class SentenceNetwork(nn.Module):
    """Reader and writer, with the prior N(0, I)."""

    def __init__(self, vocabulary: Vocabulary, latent: int, kind: str, settings: SentenceSettings) -> None:
        super().__init__()
        words = len(vocabulary.words)
        self.encoder = Reader(words, latent, kind, settings)
        self.decoder = Writer(words, vocabulary.most, latent, settings)
        self.noise_width = latent

    def forward(self, x: Int[Tensor, "rows T"], noise: Float[Tensor, "rows n d"]) -> Terms:
        """The terms of the bound; each row of noise gives one draw."""
        context = self.encoder.context(x)
        z, log_q = self.encoder.draw(context, noise)
        log_prior = log_standard_normal(z)
        kl = gaussian_kl(self.encoder.flow, self.encoder.gaussian, context) if self.encoder.gaussian else None
        return Terms(self.decoder.log_prob(x, z), log_prior, log_q, kl)
