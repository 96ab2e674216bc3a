"""How many cells a second CellPLM's package embeds at the size of its released model; run by the peers' interpreter.

    python cellplm_speed.py COUNTS.npz

Weights are random: speed does not depend on them. ``COUNTS.npz`` holds ``data``, ``indices``, ``indptr`` and ``genes``.
Writes a line of JSON: cells, seconds (least of 3), parameters (those of its gene table for the panel's genes only).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

# As its paper describes the released model: flow attention, 4 layers, 1024 wide, 512 latent. Most of its other 85 M
# parameters are the table of genes.
SIZES: dict[str, Any] = {
    "enc_mod": "flowformer",
    "enc_hid": 1024,
    "enc_layers": 4,
    "enc_head": 8,
    "post_latent_dim": 512,
    "dec_mod": None,
    "dec_hid": 512,
    "dec_layers": 2,
    "model_dropout": 0.2,
    "mask_node_rate": 0.75,
    "mask_feature_rate": 0.25,
    "pe_type": None,
    "cat_pe": False,
    "latent_mod": "vae",
    "head_type": "embedder",
}


def main() -> None:
    """Embed all cells as one sentence, as its embedding pipeline does by default."""
    import torch
    from CellPLM.model import OmicsFormer
    from CellPLM.utils.data import XDict

    with np.load(sys.argv[1], allow_pickle=False) as stored:
        genes = [str(gene) for gene in stored["genes"]]
        shape = (len(stored["indptr"]) - 1, len(genes))
        parts = [torch.from_numpy(stored[name].astype(np.int64)) for name in ("indptr", "indices")]
        counts = torch.sparse_csr_tensor(*parts, torch.from_numpy(stored["data"].astype(np.float32)), shape)
    torch.manual_seed(0)
    model = OmicsFormer(gene_list=genes, out_dim=len(genes), **SIZES).eval()
    cells = {
        "x_seq": counts.to_sparse_coo().coalesce(),
        "coord": torch.full((shape[0], 2), -1.0),
        "gene_mask": torch.ones(len(genes), dtype=torch.bool),
    }
    best = float("inf")
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            model(XDict(dict(cells)), genes)
            best = min(best, time.perf_counter() - start)
    parameters = sum(p.numel() for p in model.parameters())
    sys.stdout.write(json.dumps({"cells": shape[0], "seconds": best, "parameters": parameters}) + "\n")


if __name__ == "__main__":
    main()
