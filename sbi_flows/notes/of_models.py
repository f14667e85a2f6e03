"""What is said of a choice of models: a part of the table of sentences in `notes`."""

from __future__ import annotations

from collections.abc import Callable

SENTENCES_OF_MODELS: dict[str, str | Callable[..., str]] = {
    "simulating model": "simulating {simulations:,} of model {model!r} ...",
    "model failed": "model {model!r}: {failed:,} of {n:,} simulations failed and are left out. If a run "
    "that fails counts against the model, its log evidence is {lower:.2g} nats lower",
    "classifier trained": "classifier, network {network} of {networks}: held-out loss {loss:.4f} nats",
    "classifier scaled": "classifier, scaled by held-out simulations: {how} (temperature {temperature:.3f}, "
    "{gain:.5f} nats better)",
    "fitting for evidence": "evidence: fitting a small posterior of {model!r} to {simulations:,} "
    "simulations, about {rows:,} rows of training, to propose from; posteriors= takes one that you have ...",
    "evaluating likelihoods": "evidence: at most {draws:,} likelihoods of {model!r}, {seconds:.2g} s ...",
    "evidence left out": "evidence: {reason}",
    "evidence found": lambda models, errors, k_hat: (
        "errors of the log evidences by importance sampling: "
        + ", ".join(f"{m} {e:.3f} (k-hat {k:.2f})" for m, e, k in zip(models, errors, k_hat, strict=True))
        + "; below 0.7, k-hat says that they can be relied on"
    ),
    "gaps of the observation": "the simulations have the gaps of the observation: probabilities are for its "
    "observed part",
    "ABC of models": lambda summaries, declared: (
        f"ABC by {summaries} {'declared summaries' if declared else 'values of y'}: where they do not tell "
        "the models apart, no number of simulations makes its probabilities right (Robert et al. 2011)"
    ),
    "model favoured": "the classifier gives {model!r} the probability {p:.3f} ± {error:.3f}",
    "models look like the data": lambda models: (
        f"the data look like simulations of {' and of '.join(map(repr, models))}"
    ),
    "classifier calibrated": "the classifier passes its test of calibration on {n:,} held-out simulations "
    "(p = {p:.2g})",
    "no model like the data": "no model looks like the data, so that their probabilities mean nothing. For "
    "{model!r}, the nearest: {text}",
    "favoured model unlike the data": "but the favoured model {model!r} does not look like the data: {text}",
    "classifier not calibrated": "the classifier is not calibrated on {n:,} held-out simulations (p = "
    "{p:.2g}): its best temperature is {temperature:.2f}, which gains {gain:.3f} nats. Simulate more",
    "methods differ": "{method} differs: it gives {model!r} {other:.3f}, the classifier {p:.3f}",
    "model probability uncertain": "the probability of {model!r} has a standard error of {error:.2f}. "
    "Simulate more",
    "factor extrapolated": "a log Bayes factor of {factor:.1f} nats is beyond the {limit:.1f} that {n:,} "
    "held-out simulations can test: its size is extrapolated",
    "failures favour a model": "{share:.1%} of the simulations of {model!r} failed, more than of others; "
    "left out, which favours it. print(simulations.failures()) shows where",
}
