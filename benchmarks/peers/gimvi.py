"""gimVI (Lopez et al., 2019; scvi-tools) for one fold of the imputation benchmark.

``python -m benchmarks.peers.gimvi FOLDER`` reads ``spatial.h5ad`` and ``reference.h5ad`` of the folder and writes
``imputed.parquet``: expected counts of the reference's genes for each count of a gene of the section.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

SETTINGS = {"epochs": 200, "seed": 0}
"""The package's default number of epochs."""


def impute(spatial: Any, reference: Any) -> Any:
    """Train on both tables (integer counts) and impute in the section's cells, as the package's tutorial does."""
    import numpy as np
    import pandas as pd
    import scvi

    scvi.settings.seed = SETTINGS["seed"]
    for table in (spatial, reference):
        table.X = table.X.astype(np.float32)
        table.obs["batch"] = 0
    reference = reference[np.asarray(reference.X.sum(1)).ravel() > 0].copy()
    kept = np.asarray(spatial.X.sum(1)).ravel() > 0
    shown = spatial[kept].copy()
    scvi.external.GIMVI.setup_anndata(reference)
    scvi.external.GIMVI.setup_anndata(shown)
    model = scvi.external.GIMVI(reference, shown)
    model.train(max_epochs=SETTINGS["epochs"], accelerator="cpu")
    found = np.asarray(model.get_imputed_values(normalized=True)[1])
    places = [list(reference.var_names).index(g) for g in shown.var_names]
    found = found / found[:, places].sum(1, keepdims=True)
    out = np.zeros((spatial.n_obs, reference.n_vars), np.float32)
    out[kept] = found
    return pd.DataFrame(out, columns=list(reference.var_names))


def main(folder: str) -> None:
    """One fold."""
    import anndata as ad

    where = Path(folder)
    imputed = impute(ad.read_h5ad(where / "spatial.h5ad"), ad.read_h5ad(where / "reference.h5ad"))
    imputed.to_parquet(where / "imputed.parquet")


if __name__ == "__main__":
    main(sys.argv[1])
