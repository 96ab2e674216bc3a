"""What the Section dock says about a section, in words. No Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stplm import keys
from stplm.errors import StplmError

if TYPE_CHECKING:
    from anndata import AnnData


class Fact(NamedTuple):
    """A line: what, how much, and a tooltip."""

    name: str
    value: str
    tip: str = ""


def section_facts(table: AnnData, qc: Mapping[str, Any]) -> list[Fact]:
    """Cells, genes, counts, faint cells, dropped controls."""
    n = table.n_obs
    low, empty = int(qc.get("n_low", 0)), int(qc.get("n_empty", 0))
    controls, counted = qc.get("control_features") or {}, qc.get("control_counts") or {}
    n_controls = sum(int(v) for v in controls.values())
    kinds = ", ".join(f"{int(v):,} {k}" for k, v in controls.items())
    faint = f"{low:,}  ({low / n:.1%})" if n else "0"
    return [
        Fact("Cells", f"{n:,}"),
        Fact("Genes", genes_known(table, qc), "Genes of this panel that the model has seen; the others are not read."),
        Fact("Median counts", f"{float(qc.get('median_counts', 0)):,.0f} a cell", "Transcripts per cell, genes only."),
        Fact(
            f"Under {keys.MIN_COUNTS} counts",
            faint + (f", {empty:,} empty" if empty else ""),
            "These cells are kept and flagged; cells without any counts get no class.",
        ),
        Fact(
            "Controls dropped",
            f"{n_controls:,} features, {sum(int(v) for v in counted.values()):,} counts" if n_controls else "none",
            kinds or "The file brings no control features.",
        ),
    ]


def genes_known(table: AnnData, qc: Mapping[str, Any], model: str = "default") -> str:
    """``"306 of 313 known"``: to the model, or where there is none, to the vocabulary of human panels."""
    genes = model_genes(model)
    known = int(qc.get("n_known_genes", 0))
    if genes is not None and keys.ENSEMBL_ID in table.var:
        known = int(table.var[keys.ENSEMBL_ID].isin(genes).sum())
    return f"{known:,} of {table.n_vars:,} known"


def will_adapt(table: AnnData, model: str = "default") -> bool:
    """Whether a model that is not told otherwise is adapted to a section before it embeds it."""
    from stplm.tasks.adapt import knows_too_little

    genes = model_genes(model)
    return genes is not None and knows_too_little(genes, table)


def model_genes(model: str = "default") -> frozenset[str] | None:
    """Ensembl ids that a model knows (bundled by name, or a folder), read without loading its weights; None when it
    cannot be found."""
    from stplm.models import list_models

    try:
        found = list_models()
        chosen = next(
            (m.path for m in found if m.name == model), found[0].path if found and model == "default" else None
        )
        folder = Path(model) if chosen is None else chosen
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        return frozenset(vocabulary["genes"])
    except (StplmError, OSError, ValueError, KeyError, TypeError):
        return None
