"""The main job on the shipped demo section, headless: read, embed, seed labels, classify, report, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stplm import keys
from stplm.progress import Progress, no_progress

if TYPE_CHECKING:
    from spatialdata import SpatialData

SECTION = "demo_section"
SEEDED_NOTE = (
    "Nobody labelled these cells. A few clear cells of each class were found with the shipped reference profiles and "
    "used as labels; everything else follows from them. Label cells by clicking to replace them."
)


def run_demo(
    out: str | Path, *, say: Callable[[str], None] = lambda line: None, progress: Progress = no_progress
) -> SpatialData:
    """Run the main job on the demo section and write what it gives into the folder ``out``.

    Writes ``tables/cells.csv``, ``tables/class_counts.csv``, ``tissue_by_class.png``, ``tissue_by_tumour_call.png``,
    ``summary.html``, ``section.h5ad``, ``cell_groups.csv`` (for Xenium Explorer) and ``cells.geojson``.
    ``say`` is told each step in a sentence. Returns the section.
    """
    import stplm
    from stplm.io.staged import make_folder
    from stplm.paths import resource
    from stplm.report.colouring import tumour_calls
    from stplm.report.summary import write_summary
    from stplm.report.tables import write_tables
    from stplm.report.tissue import plot_tissue

    out = make_folder(out)
    section = stplm.read_section(resource(SECTION), polygons=True)
    table = stplm.cell_table(section)
    qc = table.uns[keys.UNS]["qc"]
    say(f"Read {table.n_obs:,} cells; {qc['n_known_genes']} of {table.n_vars} genes known to the vocabulary.")
    stplm.embed(table, progress=progress)
    say(f"Embedded every cell with the model {table.uns[keys.UNS][keys.UNS_EMBEDDING]['model']!r}.")
    labels = stplm.seed_labels(table)
    classifier = stplm.fit_classifier(table, labels, seeded=True)
    stplm.predict(table, classifier)
    tumour = int(tumour_calls(table)[0].sum())
    say(
        f"Seeded {labels.notna().sum()} labels of {labels.nunique()} classes from reference profiles and classified "
        f"every cell: {tumour:,} of {table.n_obs:,} called tumour."
    )
    write_tables(table, out / "tables")
    plot_tissue(section, keys.CLASS, out / "tissue_by_class.png")
    plot_tissue(section, "tumour_call", out / "tissue_by_tumour_call.png")
    write_summary(section, out / "summary.html", extra={"About this demo": SEEDED_NOTE})
    stplm.export(section, out / "section.h5ad", "h5ad", overwrite=True)
    stplm.export(section, out / "cell_groups.csv", "explorer", overwrite=True)
    stplm.export(section, out / "cells.geojson", "geojson", overwrite=True)
    say(f"Wrote tables, pictures, summary.html and exports into {out}.")
    return section
