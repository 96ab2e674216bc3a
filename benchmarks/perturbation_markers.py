"""Do a lineage's marker genes hold up its class? Marker sets from the literature, against random genes of like
expression.
The ten classes and their markers were written down before anything was measured: markers of the lineages as they stand
in textbooks and in the panel's own annotation, as far as they are in the panel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData

import stplm
from benchmarks.reference.sections import labelled_section
from stplm.tasks.cells import prepare_cells
from stplm.tasks.perturb_sets import GeneSets, gene_sets
from stplm.tasks.perturb_statistics import Expression, matched_sets

TUMOUR = ("DCIS_1", "DCIS_2", "Invasive_Tumor", "Prolif_Invasive_Tumor")
MARKERS: dict[str, tuple[str, ...]] = {
    "Tumour": ("EPCAM", "KRT7", "KRT8", "CDH1", "ERBB2", "TACSTD2", "GATA3", "FOXA1", "FASN", "S100A14", "ELF3"),
    "Stromal": ("LUM", "POSTN", "PDGFRA", "PDGFRB", "FBLN1", "DPT", "CCDC80", "MMP2", "PCOLCE", "SFRP4", "CXCL12"),
    "Myoepi_ACTA2+": ("ACTA2", "MYLK", "MYH11", "ACTG2", "KRT14", "KRT5", "OXTR"),
    "Myoepi_KRT15+": ("KRT15", "KRT5", "KRT14", "KRT6B", "KRT23", "SFRP1", "DST"),
    "Macrophages_1": ("CD68", "CD163", "CD14", "C1QA", "C1QC", "LYZ", "FCER1G", "TYROBP", "AIF1", "MRC1", "IGSF6"),
    "Endothelial": ("PECAM1", "VWF", "CLDN5", "CAVIN2", "KDR", "CD93", "EGFL7", "CLEC14A", "RAMP2", "AQP1"),
    "B_Cells": ("MS4A1", "CD79A", "CD79B", "CD19", "BANK1", "MZB1", "TNFRSF17"),
    "CD8+_T_Cells": ("CD8A", "CD8B", "CD3D", "CD3E", "CD3G", "TRAC", "GZMA", "GZMK", "CCL5", "NKG7"),
    "CD4+_T_Cells": ("CD4", "CD3D", "CD3E", "CD3G", "TRAC", "IL7R", "LTB", "TCF7", "CCR7"),
    "IRF7+_DCs": ("LILRA4", "IL3RA", "PLD4", "SPIB", "TCL1A", "GZMB", "TCF4"),
}
RANDOM_SETS = 20
SHOTS = 50
MOST_CELLS = 500


@dataclass(frozen=True)
class Row:
    """One class: how its probability changes in its own cells without its markers, and without as many others."""

    name: str
    genes: tuple[str, ...]
    cells: int
    markers: float
    random: np.ndarray

    @property
    def holds(self) -> bool:
        """Whether the markers lower the probability more than the mean of the random sets."""
        return self.markers < min(float(self.random.mean()), 0.0)


def measure(model: str = "default", most_cells: int = MOST_CELLS, seed: int = 0) -> list[Row]:
    """All classes. The few-shot head learns 50 cells of every class; what is perturbed are others."""
    table, truth = _section()
    loaded = stplm.load_model(model)
    stplm.embed(table, loaded, clusters=0)
    random = np.random.default_rng(seed)
    labels = np.full(table.n_obs, None, dtype=object)
    for name in np.unique(truth[truth != ""]):
        mine = np.flatnonzero(truth == name)
        labels[random.choice(mine, min(SHOTS, len(mine) // 2), replace=False)] = name
    classifier = stplm.fit_classifier(table, labels, tumour_classes=["Tumour"])
    cells = prepare_cells(table, loaded.encoder.genes, loaded.encoder.config)
    rows = []
    for name, genes in MARKERS.items():
        mine = np.flatnonzero((truth == name) & pd.isna(labels))
        chosen = np.sort(random.choice(mine, min(most_cells, len(mine)), replace=False))
        markers = gene_sets(table, np.arange(table.n_vars), {"markers": genes})
        others = _others(markers, Expression.of(cells.counts, chosen), seed)
        symbols = table.var_names
        sets = {"markers": list(genes), **{f"random {i}": [symbols[g] for g in o] for i, o in enumerate(others)}}
        found = stplm.perturb(
            table, loaded, genes=sets, cells=chosen, classifier=classifier, nulls=0, spatial=False, seed=seed
        ).genes
        # Cells that have none of a set's genes are not changed by it; they count as such.
        change = (found[f"class: {name}"].fillna(0) * found["detections"] / len(chosen)).to_numpy()
        rows.append(Row(name, genes, len(chosen), float(change[0]), change[1:]))
    return rows


def table_of(rows: list[Row]) -> str:
    """As Markdown, with the count of classes that hold."""
    lines = [
        "| class | markers deleted | cells | change of its probability | random genes of like expression, mean ± sd "
        "(lowest) | lower than of 20 |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = f"{row.random.mean():+.4f} ± {row.random.std():.4f} ({row.random.min():+.4f})"
        beaten = int((row.markers < row.random).sum())
        genes = ", ".join(row.genes)
        lines.append(f"| {row.name} | {genes} | {row.cells:,} | {row.markers:+.4f} | {spread} | {beaten} |")
    held = sum(row.holds for row in rows)
    return "\n".join(lines) + f"\n\nLower than the mean of the random sets in {held} of {len(rows)} classes."


def _section() -> tuple[AnnData, np.ndarray]:
    """The labelled section and its classes, the tumour ones as one; "" where the annotation is undecided."""
    table = labelled_section()
    truth = table.obs["cell_type"].astype(str).to_numpy(dtype=object)
    truth[np.isin(truth, TUMOUR)] = "Tumour"
    undecided = np.array(["Hybrid" in name or name == "Unlabeled" for name in truth])
    return table, np.where(undecided, "", truth)


def _others(markers: GeneSets, expression: Expression, seed: int) -> list[list[int]]:
    return matched_sets(markers, expression, RANDOM_SETS, seed)[0]
