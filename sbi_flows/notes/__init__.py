"""What a user is told while a model is made: which network, why, what was left out. A note is data; its
sentence comes from one table.

A `Note` is a string, so that it prints and compares as its sentence. It carries the kind and the values from
which the sentence was made: programs and tests read those, and the English can change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sbi_flows.errors import SettingsError
from sbi_flows.notes.of_abc import OF_ABC
from sbi_flows.notes.of_comparison import OF_COMPARISON
from sbi_flows.notes.of_exact import OF_EXACT
from sbi_flows.notes.of_models import SENTENCES_OF_MODELS
from sbi_flows.notes.of_rounds import OF_ROUNDS

Say = Callable[[str], None]

SIZE_REASONS = {
    "many parameters": "because of {parameters} parameters",
    "timed": "because the time is limited",
    "series": "because a larger network overfits single series",
    "vector": "for {parameters} parameter(s) and a fixed number of simulations",
}
FEWER_NETWORKS = {
    "cores": "one per core",
    "daemon": "a daemonic process may not start others",
    "slow simulator": "simulating needs the other cores",
    "time": "{seconds_left:.2g} s are too few to start processes",
    "simulator's core": "the simulator takes a core of its own",
}


def size_text(n: float) -> str:
    """A number of bytes."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.3g} MB"


OTHER_NETWORK = {
    "series": "sf.Vector()",
    "grid": "sf.Vector()",
    "set": "sf.Vector()",
    "vector": "sf.Series()",
}


def _summary_network(network: str, reason: str, table: str = "") -> str:
    """The network of one array, why, and the word that asks for another where a rule chose it."""
    of = f" of {table!r}" if table else ""
    declared = reason.startswith("declared")
    why = f"{'' if declared else 'because the data are '}{reason}" if reason else "as asked"
    other = (
        f"; data={OTHER_NETWORK[network]} in @sf.simulator says otherwise" if reason and not declared else ""
    )
    return f"summary network{of}: {network}, {why}{other}"


def _encoder_scaling(rms: float, alike: bool) -> str:
    unlike = "" if alike else "; the simulations are UNLIKE THE DATA THAT IT WAS TRAINED ON, where this is 1"
    return f"scaling of y: the encoder's; root mean square of the scaled simulations {rms:.3g}{unlike}"


LEFT_OUT = {"switch": "declared_summaries=False", "constant": "none of them varies"}


def _declared_summaries(count: int, scaling: str, missing: int) -> str:
    filled = (
        f"; in {missing:,} simulations one or more are not finite, and their median stands in"
        if missing
        else ""
    )
    joined = "summary joins" if count == 1 else "summaries join"
    return (
        f"{count} declared {joined} y as input of the network (FitSettings(declared_summaries=False) leaves "
        f"them out); scaling: {scaling}{filled}"
    )


def _held(buffers: bool, needed: int, free: int, checkpoint: bool) -> str:
    how = "read in buffers of 64 MB" if buffers else "held in memory"
    if checkpoint:
        return f"simulations: {how}, as in the checkpoint"
    relation = "more" if buffers else "not more"
    whole = f"{size_text(needed)} in memory with their copy in float32"
    return f"simulations: {whole}, {relation} than a quarter of the {size_text(free)} free: {how}"


def _flow(flow: str, members: int, layers: int, width: int, weights: int, simulations: int | None) -> str:
    ensemble = f"an ensemble of {members}, each " if members > 1 else ""
    rows = "" if simulations is None else f"; {simulations:,} simulations to train on"
    return f"flow: {ensemble}{flow}, {layers} layers of width {width}; {weights:,} weights in all{rows}"


def _screen(hidden: int, columns: int, member: int) -> str:
    return (
        f"screen: {hidden} of {columns} columns show no dependence on the parameters; member {member} of the "
        f"ensemble sees all columns, the others the remaining {columns - hidden}"
    )


def _mixture(
    loss: float, losses: list[float], weights: list[float], decay_factors: list[float] | None = None
) -> str:
    decays = [
        "" if decay_factors is None else f"{factor:.2g} times the weight decay, "
        for factor in decay_factors or weights
    ]
    each = ", ".join(
        f"{one:.3f} ({decay}mixture weight {w:.2f})"
        for one, decay, w in zip(losses, decays, weights, strict=True)
    )
    return f"held-out loss {loss:.3f} of the mixture of {len(losses)} networks, {each} of each"


def _rounded(value: float) -> str:
    """Three digits, without powers of ten."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _where(workers: int) -> str:
    return f"in {workers} process{'es' * (workers > 1)}" if workers else "in a thread of this process"


def _rates(simulation: float, training: float, workers: int, fresh: float) -> str:
    mix = (
        "every row is fresh"
        if fresh >= 1
        else f"{fresh:.1%} of each batch is fresh, each row seen about {1 / fresh:.3g} times"
    )
    return (
        f"simulating {_rounded(simulation)} rows/s {_where(workers)}, training takes "
        f"{_rounded(training)}: {mix}"
    )


def _slowed(starved: bool, times: float) -> str:
    if starved:
        return "a thread gets no turn while steps are taken"
    return f"in a thread it makes a step take {times:.2g} times as long"


def _simulator_stays(
    starved: bool | None = None, times: float = 1.0, seconds_left: float | None = None, error: str = ""
) -> str:
    although = "" if starved is None else f", although {_slowed(starved, times)}"
    why = error if seconds_left is None else f"{seconds_left:.2g} s are too few to start processes"
    return f"the simulator stays in a thread of this process{although}: {why}"


def _threads(threads: int, steps_per_second: dict[str, float] | None = None) -> str:
    if steps_per_second is None:
        return f"threads for training: {threads} (the other cores simulate)"
    each = ", ".join(f"{rate:.3g} steps/s with {count}" for count, rate in steps_per_second.items())
    return f"threads for training: {threads} ({each}, while simulating)"


def _fewer_networks(networks: int, asked: int, reason: str, seconds_left: float) -> str:
    why = FEWER_NETWORKS[reason].format(seconds_left=seconds_left)
    return f"{networks} network{'s' * (networks > 1)}, not {asked}: {why}"


def _rows_used(used: int, times: float) -> str:
    return (
        f"{used:,} simulations were trained on, "
        f"{'each once' if times < 1.005 else f'each {times:.3g} times on average'}"
    )


ENDED = {
    "finished": "finished",
    "patience": "stopped, no longer improving,",
    "time": "reached its time limit",
}


def _training_ended(stopped: str, epochs: int, best_loss: float, best_epoch: int, members: int) -> str:
    whose = " of the first member" if members > 1 else ""
    best = f"best held-out loss {best_loss:.3f} in epoch {best_epoch}"
    return f"training{whose} {ENDED[stopped]} after {epochs} epochs; {best}"


def _how_much(names: list[str], factors: list[float]) -> str:
    return " and ".join(
        f"{name} about {factor:,.{0 if factor >= 10 else 1}f} times as precisely"
        for name, factor in zip(names, factors, strict=True)
    )


def _not_resolved(names: list[str], factors: list[float]) -> str:
    return (
        f"the network limits how narrow the posterior of {' and '.join(names)} is: from held-out data, a "
        f"linear regression on simulations near them predicts {_how_much(names, factors)}. Ask "
        "posterior.refine(y_obs, simulator) for one observation, or simulate more"
    )


def _not_resolved_here(names: list[str], factors: list[float]) -> str:
    return (
        f"the network, not the data, limits how narrow the posterior of {' and '.join(names)} is here: from "
        f"simulated data like these, a linear regression predicts {_how_much(names, factors)}. Ask "
        "posterior.refine(y_obs, simulator), or simulate more"
    )


SENTENCES: dict[str, str | Callable[..., str]] = {
    "text": "{text}",
    "failures": "{text}",
    "simulations held": _held,
    "buffers": "the simulations were read in buffers of 64 MB",
    "starting set": "{simulations:,} simulations to begin with, from which the network and the scaling are "
    "chosen",
    "summary network": _summary_network,
    "encoder": "summary network: the encoder that was passed, not trained further, and a vector network of "
    "its {features} numbers",
    "encoder scaling": _encoder_scaling,
    "own summary network": "summary network: {name}, your own",
    "missing values": lambda redrawn: (
        "values may be missing: the network sees each value and whether it is there"
        f"{'; gaps and lengths are redrawn each time that a simulation is used' if redrawn else ''}"
    ),
    "scaling": "scaling of y: {text}",
    "declared summaries": _declared_summaries,
    "declared summaries left out": lambda reason: (
        f"the summaries that the simulator declares do not join the network's input: {LEFT_OUT[reason]}"
    ),
    "size": lambda size, reason, parameters: (
        f"size: {size}, {SIZE_REASONS[reason].format(parameters=parameters)}"
    ),
    "flow": _flow,
    "screen": _screen,
    "mixture": _mixture,
    "linear member left out": lambda loss, weight: (
        f"the linear Gaussian member is left out: held-out loss {loss:.3f}, mixture weight {weight:.2f}"
    ),
    "rates": _rates,
    "threads": _threads,
    "simulator moved": lambda **slowed: (
        f"the simulator is moved to a process of its own: {_slowed(**slowed)}"
    ),
    "simulator stays": _simulator_stays,
    "fewer networks": _fewer_networks,
    "one network": "one network: {error}",
    "networks in parallel": "{networks} networks are trained in parallel, one per core, each on its own "
    "simulations",
    "network left out": "network {network} is left out: {reason}",
    "rows used": _rows_used,
    "rows of other networks": "the other networks were trained on {used:,} more",
    "recalibrated": "recalibrated on {pairs:,} held-out pairs: noise {noise} instead of 0 ± 1",
    "training ended": _training_ended,
    "nothing learned": "the fit learned nothing from y: on held-out simulations its log density is "
    "{gain:.3f} ± {error:.3f} nats above the prior's. Say what y is, with data=sf.Series(), sf.Set() or "
    "sf.Grid() in @sf.simulator, or simulate more; if y hardly depends on the parameters, this is the answer",
    "not resolved": _not_resolved,
    "not resolved here": _not_resolved_here,
    "verdict covers": "This is about the data. On held-out simulations the posterior gained {gain:.2f} nats "
    "over the prior; whether it is calibrated, sf.check tests.",
    "likelihood untested": "The log-likelihood is not tested: {reason}.",
    "predictions untested": "Predictions at the observation are not tested: {reason}.",
    **OF_EXACT,
    **OF_ABC,
    **OF_COMPARISON,
    **OF_ROUNDS,
    **SENTENCES_OF_MODELS,
}


class Note(str):
    """The sentence of `SENTENCES[kind]` about `values`, which are JSON.

    Raises `KeyError` or `TypeError` if the table lacks the kind or the sentence a value: a bug.
    """

    kind: str
    values: Mapping[str, Any]

    def __new__(cls, kind: str, /, **values: Any) -> Note:
        """Write the sentence."""
        sentence = SENTENCES[kind]
        return cls._with(
            kind, values, sentence.format(**values) if isinstance(sentence, str) else sentence(**values)
        )

    @classmethod
    def _with(cls, kind: str, values: Mapping[str, Any], text: str) -> Note:
        note = super().__new__(cls, text)
        note.kind, note.values = kind, dict(values)
        return note

    def __reduce__(self) -> tuple[Any, ...]:
        return Note._with, (self.kind, self.values, str(self))

    def to_json(self) -> dict[str, Any]:
        """Kind, values and the sentence, as JSON."""
        return {"kind": self.kind, "values": dict(self.values), "text": str(self)}

    @classmethod
    def from_json(cls, record: dict[str, Any] | str) -> Note:
        """A note from what `to_json` gave, with the sentence as it was then; older files hold only that."""
        if isinstance(record, str):
            return cls("text", text=record)
        return cls._with(record["kind"], record["values"], record["text"])


def check_say(say: object) -> None:
    """Raise `SettingsError` unless it takes a line of text, or is None."""
    if not (say is None or callable(say)):
        raise SettingsError(f"say must be a function of a line of text, such as print, or None; got {say!r}.")


class Notes(list[Note]):
    """Notes in the order in which they were made, each said at once."""

    def __init__(self, say: Say | None = None) -> None:
        super().__init__()
        check_say(say)
        self._say = say or (lambda text: None)

    def note(self, kind: str, /, **values: Any) -> None:
        """Keep a note, and say it."""
        self.append(Note(kind, **values))
        self._say(self[-1])

    def say(self, kind: str, /, **values: Any) -> None:
        """Say a sentence that need not be kept."""
        self._say(Note(kind, **values))
