"""Pretrain a bundled model: ``python scripts/pretrain_breast.py SHARED_DATA tissue|rank|hybrid [OUT]``.

On one core: tissue about 15 minutes, rank an hour, hybrid (after rank) 20 minutes. The corpus is the public Xenium
breast section (Replicate 1) without the cells of the regions on which results are scored. One thread, so that the same
machine gives the same weights. A run that was stopped goes on from its checkpoint when it is started again.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import anndata
import torch
from tqdm import tqdm

import stplm
from stplm.tasks.checkpoints import Checkpoints
from stplm.tasks.training import training_defaults

MODELS = Path("resources/models")
CHECKPOINTS = Path("build")
TRAINING = {
    "tissue": training_defaults("tissue", steps=2500, precision="bfloat16"),
    # Matrix products in half precision: twice as many cells an hour.
    "rank": training_defaults("rank", steps=2000, patch=96, patches=1, precision="bfloat16"),
    "hybrid": training_defaults("hybrid"),
}
DESCRIPTION = {
    "tissue": "Cell-token encoder for the Xenium human breast panel (280 genes and the public section's 33 add-ons).",
    "rank": "Gene-token encoder, small (6 layers of 256), for the Xenium human breast panel (280 genes and the public "
    "section's 33 add-ons).",
    "hybrid": "Cell-token encoder over the vectors of the gene-token encoder rank-breast, for the Xenium human breast "
    "panel (280 genes and the public section's 33 add-ons).",
}
DATA = [
    "10x Genomics, FFPE Human Breast, Xenium, Replicate 1 (Janesick et al., 2023; CC BY 4.0): 31,275 cells, a random "
    "subsample of four quadrants; the regions whose labels are used for scoring were left out"
]
LIMITS = (
    "A demonstration corpus: one breast section of one patient, not the millions of lung and colon tumour cells of the "
    "STPLM paper. For another tissue or panel, adapt it to the section first (stplm.adapt) and look closely at what it "
    "says. Because the corpus is a subsample, its cells lie further apart than in a whole section. Research use only; "
    "not a diagnostic device."
)


def main(shared: str, preset: str = "tissue", out: str = "") -> None:
    """Train and save the model folder."""
    torch.set_num_threads(1)
    name = f"{preset}-breast"
    table = anndata.read_h5ad(Path(shared) / "xenium_breast_34k" / "rep1_34451.h5ad")
    scored = table.obs["in_17k_region"] | table.obs["in_small_labelled_region"]
    CHECKPOINTS.mkdir(exist_ok=True)
    checkpoint = CHECKPOINTS / f"{name}.checkpoint"
    with tqdm(unit="step") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        model = stplm.pretrain(
            [table[~scored].copy()],
            TRAINING[preset],
            preset=preset,
            base=MODELS / "rank-breast" if preset == "hybrid" else None,
            name=name,
            provenance={"description": DESCRIPTION[preset], "data": DATA, "limits": LIMITS},
            checkpoint=Checkpoints(checkpoint, every_minutes=2, resume=True),
            progress=progress,
        )
    model.save(out or MODELS / name, overwrite=True)
    shutil.rmtree(checkpoint)


if __name__ == "__main__":
    main(*sys.argv[1:])
