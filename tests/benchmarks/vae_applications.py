"""What autoencoders reach in applications: sentences, strings of high worth, sharp pictures, edits, clusters.

    python -m tests.benchmarks.vae_applications [sentences] [strings] [blur] [attribute] [clusters]
                                                [--seeds 2]

Each line gives a measurement, the bar that it is held to, and whether it passes. On one core `sentences`
takes a minute per seed, `strings` a minute and a half, `blur` one, `attribute` half a minute per seed,
`clusters` one per seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import sbi_flows as sf
from sbi_flows import vae
from sbi_flows.nets.vector import VectorSummary
from sbi_flows.rng import stream, torch_scope
from sbi_flows.training.loop import train
from sbi_flows.training.rows import TensorRows

from ..vae.text import grammar
from ..vae.text import strings as language
from .sections import parser_of, report, run
from .vae_digits import binary_digits

F = NDArray[np.float64]

_PATHS = 200
_TOP, _STARTS, _MARKS = 50, 200, 10


def grammatical(sentences: Sequence[Sequence[str]]) -> float:
    """The share of sentences that the grammar can make."""
    return float(np.mean([np.isfinite(grammar.log_prob(sentence)) for sentence in sentences]))


def sentences(options: argparse.Namespace) -> None:
    """10,000 sentences, 1,000 others to test: the collapse of the KL, parts of its cure (one seed) and the
    whole cure, at equal budgets.
    """
    x, valid, test = (grammar.sentences(n, stream(i, "grammar")) for i, n in enumerate((10_000, 500, 1000)))
    exact = -np.mean([grammar.log_prob(sentence) for sentence in test])
    entropy = grammar.entropy()
    print(f"grammar: entropy {entropy:.3f} nats; the 1,000 test sentences have {exact:.3f}", flush=True)
    cures = {
        "no cure": {},
        "warm-up": {"warmup": 8},
        "warm-up, word dropout 0.3": {"warmup": 8, "word_dropout": 0.3},
        "warm-up, word dropout 0.3, free bits 0.25": {"warmup": 8, "word_dropout": 0.3, "free_bits": 0.25},
    }
    for seed in range(options.seeds):
        for name, cure in cures.items():
            if seed and name not in (next(iter(cures)), list(cures)[-1]):
                continue
            began = time.process_time()
            model = vae.SentenceVAE(latent=8, seed=seed)
            model.fit(x, valid, epochs=16, **cure)  # type: ignore[arg-type]
            seconds = time.process_time() - began
            terms, nll = model.elbo(test), -model.log_evidence(test, 100).log_evidence.mean()
            kl, active = float(terms.kl.mean()), int(model.active_units(test).sum())
            paths = [model.interpolate(test[2 * i], test[2 * i + 1], 9) for i in range(_PATHS)]
            between = grammatical([sentence for path in paths for sentence in path[1:-1]])
            distinct = float(np.mean([len(set(map(tuple, path))) for path in paths]))
            exactly = np.mean(
                [again == sentence for again, sentence in zip(model.reconstruct(test), test, strict=True)]
            )
            print(
                f"sentences, {name}, seed {seed}: KL {kl:.3f}  active {active}/8  -ELBO "
                f"{-terms.bound.mean():.3f}  NLL {nll:.3f}  grammatical: draws "
                f"{grammatical(model.sample(1000)):.2f}, between {between:.3f}  distinct of 9 "
                f"{distinct:.1f}  reconstructed word for word {exactly:.1%}  {seconds:.0f} s",
                flush=True,
            )
            if name == "no cure":
                report(f"sentences, seed {seed}, no cure: KL", kl, 0.05)
        report(f"sentences, seed {seed}, cured: KL", kl, 0.5, at_least=True)
        report(f"sentences, seed {seed}, cured: active units", active, 5, at_least=True)
        report(f"sentences, seed {seed}, cured: |IWAE-100 - entropy|", abs(nll - entropy), 0.3)
        report(f"sentences, seed {seed}, cured: grammatical between", between, 0.85, at_least=True)
        report(f"sentences, seed {seed}, cured: distinct of 9", distinct, 4, at_least=True)


def top(found: Sequence[str]) -> float:
    """The mean worth of the best 50 different strings."""
    worth = np.sort([language.worth(string) for string in set(found)])[::-1][:_TOP]
    return float(worth.mean())


def valid(found: Sequence[str]) -> float:
    """The share of strings that are valid."""
    return float(np.mean([language.worth(string) > -np.inf for string in found]))


def predictor(z: F, worth: F, seed: int) -> nn.Module:
    """A perceptron from z to the worth, in float64."""
    with torch_scope(stream(seed, "predictor")):
        net = VectorSummary(z.shape[1], 1, 64)

    def loss(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return (module(batch[0])[:, 0] - batch[1]).square()

    rows = [torch.from_numpy(part.astype(np.float32)) for part in (z, worth)]
    train(net, loss, TensorRows(rows, sf.TrainSettings(epochs=60, batch_size=256), seed))
    return net.double()


def strings(options: argparse.Namespace) -> None:
    """3,600 strings: an ascent of the predicted worth from 200 of them; 2,000 strings decoded on the way,
    compared with as many random ones.
    """
    x = language.strings(3600, stream(0, "strings"))
    letters, worth = [list(string) for string in x], np.array([language.worth(string) for string in x])
    model = vae.SentenceVAE(latent=12, seed=0, most_words=20, settings=vae.SentenceSettings(width=96))
    settings = sf.TrainSettings(batch_size=64, learning_rate=4e-3, patience=1000)
    model.fit(letters, letters[:200], epochs=70, warmup=62, word_dropout=0.4, train_settings=settings)

    def decoded(z: F) -> list[str]:
        return ["".join(letters) for letters in model.decode(z)]

    mean = model.latent_mean(letters)
    net = predictor(model.encode(letters, 4, seed=1).reshape(-1, 12), np.repeat(worth, 4), 0)
    with torch.no_grad():
        missed = net(torch.from_numpy(mean))[:, 0].numpy() - worth
    exactly = np.mean([again == string for again, string in zip(decoded(mean), x, strict=True)])
    random = decoded(stream(0, "random").standard_normal((_STARTS * _MARKS, 12)))
    explained = 1 - np.square(missed).mean() / worth.var()
    print(f"strings: {exactly:.0%} reconstructed letter for letter; R2 of the predictor {explained:.2f}")
    print(
        f"strings: best {_TOP} of the training set {top(x):.2f}, of the random prior {top(random):.2f} "
        f"({valid(random):.0%} valid)",
        flush=True,
    )
    start = stream(0, "starts").choice(len(x), _STARTS, replace=False)
    for weight in (0.0, 0.05, 0.1, 0.2):
        found = vae.optimise(model, lambda z: net(z)[:, 0], mean[start], prior_weight=weight)
        marks = np.linspace(0, len(found.path) - 1, _MARKS + 1).astype(int)[1:]
        path = [decoded(found.path[mark]) for mark in marks]
        reached = np.array([[language.worth(string) for string in strings] for strings in path])
        best, last = reached.max(axis=0), reached[-1]
        best50, ends = top([string for strings in path for string in strings]), path[-1]
        print(
            f"strings, prior weight {weight}: worth {worth[start].mean():.2f} -> "
            f"{last[np.isfinite(last)].mean():.2f} where valid, {valid(ends):.0%} of the ends are; |z| "
            f"{np.linalg.norm(found.z, axis=1).mean():.1f}; best {_TOP} on the way {best50:.2f}, best "
            f"{best.max():.2f} of {language.HIGHEST}; {len(set(ends))} ends, "
            f"{np.mean([s not in set(x) for s in ends]):.0%} new",
            flush=True,
        )
        if weight == 0.1:
            report("strings: best 50 - those of the random prior", best50 - top(random), 1.0, at_least=True)
            report("strings: best 50 - those of the training set", best50 - top(x), 0.0, at_least=True)
            report(
                "strings: share of starts improved", float((best > worth[start]).mean()), 0.9, at_least=True
            )
            report("strings: valid at the end", valid(ends), 0.6, at_least=True)


def sharpness(pictures: F) -> float:
    """The mean energy of the discrete Laplacian of pictures (n, rows, columns), with nothing around them."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)))
    around = padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] + padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2]
    return float(np.square(4 * pictures - around).sum(axis=(1, 2)).mean())


def blur(options: argparse.Namespace) -> None:
    """Grey digits on [0, 1]: sharpness of reconstructed test digits by the sd of a Gaussian decoder (sd 1 is
    squared error).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits().images / 16, load_digits().target
    training, test = train_test_split(images, test_size=360, random_state=0, stratify=labels)
    ratios: dict[float | str, float] = {}
    for sd in (1.0, 0.3, "learned"):
        model = vae.VAE(event_shape=(8, 8), latent=16, likelihood=vae.Gaussian(sd=sd), seed=0)
        model.fit(training, epochs=150, warmup=50)
        again, means = (
            model.reconstruct(test),
            model.decode(stream(0, "prior").standard_normal((len(test), 16))),
        )
        ratios[sd] = sharpness(again) / sharpness(test)
        print(
            f"blur, sd {sd}: Laplacian energy of reconstructions {ratios[sd]:.3f} of the data's, of means "
            f"at the prior's z {sharpness(means) / sharpness(test):.3f}; rmse "
            f"{np.sqrt(np.square(again - test).mean()):.3f}, {model.active_units(test).sum()}/16 active",
            flush=True,
        )
    report("blur: learned sd", ratios["learned"], 0.75, at_least=True)
    report("blur: learned sd over sd 1", ratios["learned"] / ratios[1.0], 2.0, at_least=True)


def slants(x: F) -> F:
    """How far pictures (n, 64) lean to the right: minus the covariance of column and row over the variance of
    the row.
    """
    ink = x.reshape(-1, 8, 8) / x.sum(axis=1)[:, None, None]
    row, column = np.mgrid[:8, :8]
    row, column = (place - (ink * place).sum(axis=(1, 2))[:, None, None] for place in (row, column))
    return np.asarray(-(ink * row * column).sum(axis=(1, 2)) / (ink * row**2).sum(axis=(1, 2)))


def attribute(options: argparse.Namespace) -> None:
    """The slant of test digits below the median, in ten steps to 3 times its attribute vector."""
    training, valid, test = binary_digits()
    for seed in range(options.seeds):
        model = vae.VAE(event_shape=64, latent=8, likelihood="bernoulli", seed=seed)
        model.fit(training, valid, epochs=300, warmup=100)
        leaning(model, training, test, seed)


def leaning(model: vae.VAE, training: F, test: F, seed: int) -> None:
    """`attribute` for one model."""
    of_data, ink = slants(training), training.sum(axis=1)
    direction = vae.attribute_vector(model, training, of_data)
    z = model.latent_mean(test)
    z = z[slants(model.decode(z)) < np.median(of_data)]
    path = [model.decode(z + step * direction) for step in np.linspace(0, 3, 11)]
    lean = np.stack([slants(pictures) for pictures in path])
    drift = np.abs(path[-1].sum(axis=1) - path[0].sum(axis=1)).mean() / ink.std()
    rises, shift = (
        float((np.diff(lean, axis=0) > 0).mean()),
        float((lean[-1] - lean[0]).mean() / of_data.std()),
    )
    crosses = float((lean[-1] > np.median(of_data)).mean())
    report(f"slant, seed {seed}: steps that increase it", rises, 0.97, at_least=True, note=f"{len(z)} digits")
    report(f"slant, seed {seed}: mean shift (sd of the data)", shift, 1.5, at_least=True)
    report(
        f"slant, seed {seed}: share that crosses the median",
        crosses,
        0.9,
        at_least=True,
        note=f"ink drifts by {drift:.2f} sd",
    )


def clusters(options: argparse.Namespace) -> None:
    """Grey digits, counts 0 to 16: normalised mutual information of clusters and classes, compared with
    k-means on the pixels.
    """
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    training, test, labels, test_labels = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
    plain = normalized_mutual_info_score(labels, KMeans(10, n_init=10, random_state=0).fit_predict(training))
    found = []
    for seed in range(options.seeds):
        model = vae.ClusterVAE(clusters=10, event_shape=64, latent=10, likelihood=vae.Binomial(16), seed=seed)
        model.fit(training, epochs=options.epochs, tuning_epochs=0)
        start = normalized_mutual_info_score(labels, model.assign(training))
        bound = model.elbo(test).bound.mean()
        model.fit(training, tuning_epochs=options.epochs // 3)
        found.append(normalized_mutual_info_score(labels, model.assign(training)))
        fresh = normalized_mutual_info_score(test_labels, model.assign(test))
        print(
            f"clusters, seed {seed}: NMI {start:.3f} where placed, {found[-1]:.3f} fitted together, "
            f"{fresh:.3f} on test digits; "
            f"-ELBO of test digits {-bound:.2f} -> {-model.elbo(test).bound.mean():.2f}",
            flush=True,
        )
    report("clusters: mean NMI", float(np.mean(found)), 0.83, at_least=True)
    report(
        "clusters: mean NMI - k-means'",
        float(np.mean(found)) - plain,
        0.06,
        at_least=True,
        note=f"k-means {plain:.3f}",
    )


SECTIONS = (sentences, strings, blur, attribute, clusters)


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=150, help="of clusters")
    run(parser, SECTIONS, SECTIONS)
