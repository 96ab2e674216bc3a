"""Predict with a fine-tuned model: each cell is encoded once, then the heads call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import ModelError
from stplm.models import Model, load_model
from stplm.progress import Progress, no_progress
from stplm.tasks.prediction import write_prediction
from stplm.tasks.shares import Shares, share_sample
from stplm.tokens.vocabulary import gene_places

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

    from stplm.nn.encoder import Encoder
    from stplm.nn.heads import ClassHeads
    from stplm.tasks.cells import Cells

_CHUNK = 8192


def apply_heads(
    table: AnnData | SpatialData,
    model: str | Path | Model,
    *,
    shares: Shares = "fitted",
    device: str = "auto",
    dtype: str = "float32",
    progress: Progress = no_progress,
) -> AnnData:
    """Class, calibrated confidence and tumour probability of every cell, written as :func:`stplm.predict` does.

    ``table`` need not be embedded; an embedding that is there stays. ``shares`` as :func:`stplm.predict` takes it.
    Returns the cell table.

    Raises
    ------
    ModelError
        The model has no heads: it is not fine-tuned.
    GeneError
        The model knows none of the genes.
    SectionError
        No cell, or counts that are not integers.
    Cancelled
        When ``progress`` raises it; nothing is written then.
    """
    from stplm.io.cell_table import counts_matrix
    from stplm.io.groups import as_table
    from stplm.tasks.cells import prepare_cells, table_columns
    from stplm.tasks.device import choose_device
    from stplm.tasks.finetune_scores import log_shares, outputs

    table, loaded = as_table(table), load_model(model)
    heads = loaded.heads
    if heads is None:
        raise ModelError(
            "This model has not learned any classes.",
            found=loaded.name,
            expected="a fine-tuned model",
            mend="Fine-tune it on labels (stplm.finetune), or fit the few-shot head (stplm.fit_classifier).",
        )
    cells = prepare_cells(table, loaded.encoder.genes, loaded.encoder.config)
    genes, counts = table_columns(table), counts_matrix(table)
    logs = section_log_proba(
        loaded.encoder, heads, cells, counts, genes, device=choose_device(device), dtype=dtype, progress=progress
    )
    empty = np.asarray(counts.sum(1)).ravel() == 0
    note = _note(loaded, heads)
    if shares == "section" and (known := note["class_shares"]) and not empty.all():
        here = log_shares(share_sample(logs[~empty]), np.array(known) / np.exp(heads.config.log_shift or 0.0))
        logs = logs + (here - np.log(known))
        note["class_shares"] = [round(float(p), 6) for p in np.exp(here)]
    proba, tumour = outputs(heads, logs)
    write_prediction(table, heads.config.classes, proba, tumour, empty, note)
    return table


def section_log_proba(
    encoder: Encoder,
    heads: ClassHeads,
    cells: Cells,
    counts: csr_matrix,
    genes: NDArray[np.str_],
    *,
    device: Any = "cpu",
    dtype: str = "float32",
    progress: Progress = no_progress,
) -> NDArray[np.float32]:
    """Log-probabilities (n, k) of the classes as trained, of every cell.

    ``counts`` (n, p) with Ensembl ids ``genes`` (p,), "" for genes that count towards a cell's depth only. Encoder and
    heads are on the CPU afterwards.
    """
    import torch

    from stplm.tasks.encode import encode
    from stplm.tasks.finetune_patches import take_columns

    vectors = encode(encoder, cells, neighbours=heads.config.neighbours, device=device, dtype=dtype, progress=progress)
    columns = gene_places(heads.config.genes, genes)
    logs = np.empty((len(vectors), len(heads.config.classes)), dtype=np.float32)
    heads = heads.cpu().eval()
    with torch.inference_mode():
        for start in range(0, len(vectors), _CHUNK):
            part = slice(start, start + _CHUNK)
            dense = torch.from_numpy(np.asarray(counts[part].toarray(), dtype=np.float32))
            types, tumour = heads(torch.from_numpy(vectors[part]), take_columns(dense, columns), dense.sum(1))
            logs[part] = heads.log_proba(types, tumour).numpy()
    return logs


def _note(model: Model, heads: ClassHeads) -> dict[str, Any]:
    """Plain values for provenance, the keys of the few-shot head's and more."""
    about = model.provenance.get("finetune", {})
    classes, labels = list(heads.config.classes), dict(about.get("labels", {}))
    return {
        "model": model.name,
        "sha256": model.fingerprint(),
        "classes": classes,
        "tumour_classes": list(heads.config.tumour_classes),
        "class_shares": list(about.get("class_shares", [])),
        "temperature": round(heads.config.temperature, 6),
        "tumour_temperature": round(heads.config.tumour_temperature, 6),
        "n_labels": int(sum(labels.values())),
        "labels_by_class": [int(labels.get(c, 0)) for c in classes],
        "seeded": False,
        "seed": int(about.get("config", {}).get("seed", 0)),
        "scheme": heads.config.scheme,
        "tissue": heads.config.neighbours,
        "finetuned": True,
    }
