"""pythae's VAE and VAE_IAF (tried with 0.1.2) on given events of zeros and ones; run by a Python with pythae:

    python tests/benchmarks/peer_pythae.py FOLDER
        reads in.npz (training, valid, test) and options.json, writes facts.json

Perceptrons of the same sizes as ours: m-128-128 to the latent numbers and back. Its trainer runs as it comes
(batches of 64, Adam at 1e-3) and "matched": with our schedule, 2e-3 down to zero along a cosine. It has no
warm-up for these models. The weights kept are those of the least loss on the validation rows.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

HIDDEN, DRAWS = 128, 64


def networks(m: int, latent: int) -> tuple[Any, Any]:
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Into(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(m, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU())
            self.mean, self.log_variance = nn.Linear(HIDDEN, latent), nn.Linear(HIDDEN, latent)

        def forward(self, x: torch.Tensor) -> Any:
            h = self.net(x.flatten(1))
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class OutOf(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                *(
                    nn.Linear(latent, HIDDEN),
                    nn.SiLU(),
                    nn.Linear(HIDDEN, HIDDEN),
                    nn.SiLU(),
                    nn.Linear(HIDDEN, m),
                    nn.Sigmoid(),
                )
            )

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z))

    return Into(), OutOf()


def trained(
    arrays: dict[str, np.ndarray], options: dict[str, Any], flow: bool, matched: bool, seed: int
) -> dict[str, float]:
    """Test figures in nats, and seconds of processor time."""
    from pythae.models import VAE, VAE_IAF, VAE_IAF_Config, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    torch.manual_seed(seed)
    m, latent, epochs = arrays["training"].shape[1], options["latent"], options["epochs"]
    into, out_of = networks(m, latent)
    sizes = {"input_dim": (m,), "latent_dim": latent, "reconstruction_loss": "bce"}
    model = VAE_IAF(VAE_IAF_Config(**sizes), into, out_of) if flow else VAE(VAEConfig(**sizes), into, out_of)
    schedule = (
        {"scheduler_cls": "CosineAnnealingLR", "scheduler_params": {"T_max": epochs}} if matched else {}
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            learning_rate=2e-3 if matched else 1e-3,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=64,
            optimizer_cls="Adam",
            seed=seed,
            no_cuda=True,
            **schedule,
        )
        began = time.process_time()
        rows = [torch.from_numpy(arrays[name].astype(np.float32)) for name in ("training", "valid")]
        TrainingPipeline(training_config=settings, model=model)(train_data=rows[0], eval_data=rows[1])
        seconds = time.process_time() - began
        final = max(Path(folder).glob("*/final_model"), key=lambda path: path.stat().st_mtime)
        weights = torch.load(final / "model.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(weights["model_state_dict"])
    model.eval()
    test = torch.from_numpy(arrays["test"].astype(np.float32))
    with torch.no_grad():
        bound = -float(np.mean([float(model({"data": test}).loss) for _ in range(DRAWS)]))
        evidence = float(np.mean(model.get_nll(test, n_samples=500, batch_size=100)))
    return {"-ELBO": -bound, "NLL": -evidence, "seconds": seconds}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    asked = json.loads((place / "options.json").read_text())
    torch.set_num_threads(1)
    with np.load(place / "in.npz") as given:
        arrays = dict(given)
    said = {
        f"{'VAE_IAF' if flow else 'VAE'}, {'matched' if matched else 'as it comes'}, seed {seed}": trained(
            arrays, asked, flow, matched, seed
        )
        for seed in range(asked["seeds"])
        for flow in (False, True)
        for matched in (False, True)
    }
    (place / "facts.json").write_text(json.dumps(said))
