"""Files and checkpoints of sentence autoencoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sbi_flows import vae
from sbi_flows.errors import BankMismatchError, CorruptFileError, SbiFlowsError
from sbi_flows.files import read_file, write_file
from sbi_flows.rng import stream

from .letters import made, toy


def test_a_checkpoint_resumes_only_its_own_run(tmp_path: Path) -> None:
    one, other = made(), made()
    for model in (one, other):
        model.fit(toy(), epochs=2, word_dropout=0.5, checkpoint=tmp_path / "checkpoint")
    assert one.sample(5) == other.sample(5)
    assert np.array_equal(one.elbo(toy(5)).bound, other.elbo(toy(5)).bound)
    with pytest.raises(BankMismatchError):
        made().fit(toy(), epochs=2, word_dropout=0.4, checkpoint=tmp_path / "checkpoint")


@pytest.mark.parametrize("encoder", ["diagonal", "full_rank", "iaf"])
def test_everything_is_bit_identical_after_a_file_and_so_is_the_file(encoder: str, tmp_path: Path) -> None:
    model = made(encoder=encoder)
    model.fit(toy(), epochs=2)
    model.save(tmp_path / "a")
    loaded = vae.SentenceVAE.load(tmp_path / "a")
    assert np.array_equal(
        model.log_evidence(toy(5), 30).log_evidence, loaded.log_evidence(toy(5), 30).log_evidence
    )
    assert (model.sample(9), model.vocabulary, model.history) == (
        loaded.sample(9),
        loaded.vocabulary,
        loaded.history,
    )
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    model, path = made(), tmp_path / "a"
    model.fit(toy(), epochs=1)
    model.save(path)
    with pytest.raises(CorruptFileError, match="sentence autoencoder"):
        vae.load(path)
    data, rng = path.read_bytes(), stream(0, "flips")
    for position in rng.integers(0, len(data), 40):
        altered = bytearray(data)
        altered[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(altered))
        with pytest.raises(SbiFlowsError):
            vae.SentenceVAE.load(path)
    path.write_bytes(data)
    arrays, manifest = read_file(path, "sentence autoencoder")
    for words, refusal in ((["a", "b", "d"], None), (["a", "b"], "fit together")):
        write_file(path, arrays, {**manifest, "words": words})
        if refusal is None:
            assert "d" in vae.SentenceVAE.load(path).vocabulary.words
        else:
            with pytest.raises(CorruptFileError, match=refusal):
                vae.SentenceVAE.load(path)
    arrays["net/decoder.head.bias"] = arrays["net/decoder.head.bias"] + stream(0, "bias").standard_normal(4)
    write_file(path, arrays, manifest)
    with pytest.raises(CorruptFileError, match="check values"):
        vae.SentenceVAE.load(path)
