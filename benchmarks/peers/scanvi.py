"""scANVI (Xu et al. 2021, Mol. Syst. Biol. 17:e9620) with scvi-tools, as its tutorial on seed labels does it.

scVI is trained once on every cell of the section without labels; for each draw of labels scANVI starts from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

UNLABELLED = "Unknown"
SETTINGS = {
    "n_latent": 30,
    "n_layers": 2,
    "gene_likelihood": "nb",
    "scvi_epochs": 150,
    "scanvi_epochs": 20,
    "n_samples_per_label": 100,
}


def prepare(table: Any, folder: Path) -> Any:
    """scVI of the section; its weights are kept in ``folder``, so that a killed run need not train it again."""
    scvi = _package()
    table.X = table.X.toarray().astype(np.float32)  # the same numbers, read twice as fast
    scvi.model.SCVI.setup_anndata(table)
    scvi.settings.seed = 0
    sizes = {key: SETTINGS[key] for key in ("n_latent", "n_layers", "gene_likelihood")}
    model = scvi.model.SCVI(table, **sizes)
    weights = folder / "scvi.npz"
    if weights.exists():
        _put_weights(model, weights)
    else:
        model.train(max_epochs=SETTINGS["scvi_epochs"], **_QUIET)
        state = {name: value.numpy() for name, value in model.module.state_dict().items()}
        np.savez(folder / "scvi.part.npz", **state)
        (folder / "scvi.part.npz").replace(weights)
    return model


def predict(prepared: Any, labels: Any, seed: int) -> Any:
    """A class name for every cell of the section that was prepared."""
    scvi = _package()
    scvi.settings.seed = seed
    table = prepared.adata
    table.obs["label"] = np.array([UNLABELLED if name is None else name for name in labels])
    model = scvi.model.SCANVI.from_scvi_model(prepared, UNLABELLED, labels_key="label", adata=table)
    # The tutorial's number of labels an epoch; where there are more, every one, which is the package's default.
    commonest = np.unique([name for name in labels if name is not None], return_counts=True)[1].max()
    shown = SETTINGS["n_samples_per_label"] if commonest <= SETTINGS["n_samples_per_label"] else None
    model.train(max_epochs=SETTINGS["scanvi_epochs"], n_samples_per_label=shown, **_QUIET)
    return np.asarray(model.predict()).astype(str)


_QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "enable_checkpointing": False}


def _package() -> Any:
    import scvi

    return scvi


def _put_weights(model: Any, path: Path) -> None:
    import torch

    with np.load(path, allow_pickle=False) as state:
        model.module.load_state_dict({name: torch.from_numpy(state[name]) for name in state.files})
    model.is_trained_ = True
    model.module.eval()
