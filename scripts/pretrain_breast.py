"""Pretrain the bundled model: ``python scripts/pretrain_breast.py SHARED_DATA [OUT]``. About 15 minutes on one core.

The corpus is the public Xenium breast section (Replicate 1) without the cells of the regions on which results are
scored. One thread, so that the same machine gives the same weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata
import torch
from tqdm import tqdm

import stplm
from stplm.tasks.training import TrainingConfig

NAME = "tissue-breast"
PROVENANCE = {
    "description": "Cell-token encoder for the Xenium human breast panel (280 genes and the public section's 33 "
    "add-ons).",
    "data": [
        "10x Genomics, FFPE Human Breast, Xenium, Replicate 1 (Janesick et al., 2023; CC BY 4.0): 31,275 cells, a "
        "random subsample of four quadrants; the regions whose labels are used for scoring were left out"
    ],
    "limits": "A demonstration corpus: one breast section of one patient, not the millions of lung and colon tumour "
    "cells of the STPLM paper. For another tissue or panel, adapt it to the section first (stplm.adapt) and look "
    "closely at what it says. Because the corpus is a subsample, its cells lie further apart than in a whole section. "
    "Research use only; not a diagnostic device.",
}


def main(shared: str, out: str = "resources/models/tissue-breast") -> None:
    """Train and save the model folder."""
    torch.set_num_threads(1)
    table = anndata.read_h5ad(Path(shared) / "xenium_breast_34k" / "rep1_34451.h5ad")
    scored = table.obs["in_17k_region"] | table.obs["in_small_labelled_region"]
    with tqdm(unit="step") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        config = TrainingConfig(steps=4000)
        model = stplm.pretrain([table[~scored].copy()], config, name=NAME, provenance=PROVENANCE, progress=progress)
    model.save(out, overwrite=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
