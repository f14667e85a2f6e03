"""What autoencoders of sentences reach on a grammar whose entropy is known.

    python -m tests.benchmarks.vae_sequences [sentences] [--seeds 3]

Each line gives a measurement, the bar that it is held to, and whether it passes. `sentences` takes a minute and a half a seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from sbi_flows import vae
from sbi_flows.rng import stream

from ..vae import grammar
from .vae import report

_PATHS = 200


def grammatical(sentences: Sequence[Sequence[str]]) -> float:
    """The share of sentences that the grammar has."""
    return float(np.mean([np.isfinite(grammar.log_prob(sentence)) for sentence in sentences]))


def sentences(options: argparse.Namespace) -> None:
    """10,000 sentences, 1,000 others to test: the collapse of the KL, two halves of its cure and all of it, at one budget."""
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
            began = time.process_time()
            model = vae.SentenceVAE(latent=8, seed=seed)
            model.fit(x, valid, epochs=16, **cure)  # type: ignore[arg-type]
            seconds = time.process_time() - began
            terms, nll = model.elbo(test), -model.log_evidence(test, 100).log_evidence.mean()
            kl, active = float(terms.kl.mean()), int(model.active_units(test).sum())
            paths = [model.interpolate(test[2 * i], test[2 * i + 1], 9) for i in range(_PATHS)]
            between = grammatical([sentence for path in paths for sentence in path[1:-1]])
            distinct = float(np.mean([len(set(map(tuple, path))) for path in paths]))
            exactly = np.mean([again == sentence for again, sentence in zip(model.reconstruct(test), test, strict=True)])
            print(
                f"sentences, {name}, seed {seed}: KL {kl:.3f}  active {active}/8  -ELBO {-terms.bound.mean():.3f}  NLL {nll:.3f}  "
                f"grammatical: draws {grammatical(model.sample(1000)):.2f}, between {between:.3f}  distinct of 9 {distinct:.1f}  "
                f"reconstructed word for word {exactly:.1%}  {seconds:.0f} s",
                flush=True,
            )
            if name == "no cure":
                report(f"sentences, seed {seed}, no cure: KL", kl, 0.05)
        report(f"sentences, seed {seed}, cured: KL", kl, 0.5, at_least=True)
        report(f"sentences, seed {seed}, cured: active units", active, 5, at_least=True)
        report(f"sentences, seed {seed}, cured: |IWAE-100 - entropy|", abs(nll - entropy), 0.3)
        report(f"sentences, seed {seed}, cured: grammatical between", between, 0.85, at_least=True)
        report(f"sentences, seed {seed}, cured: distinct of 9", distinct, 4, at_least=True)


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {section.__name__: section for section in (sentences,)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"sections are {', '.join(SECTIONS)}; got {', '.join(sorted(unknown))}.")
    for name in options.sections or SECTIONS:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
