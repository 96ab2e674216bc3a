"""Every key that STPLM writes into a SpatialData or an AnnData, and the names it expects there.

One place decides; no other module spells a key as a string.
"""

from __future__ import annotations

# --- SpatialData elements (the names that spatialdata-io gives a Xenium section) ---
TABLE = "table"
CELL_LABELS = "cell_labels"
NUCLEUS_LABELS = "nucleus_labels"
CELL_BOUNDARIES = "cell_boundaries"
NUCLEUS_BOUNDARIES = "nucleus_boundaries"
CELL_CIRCLES = "cell_circles"
MORPHOLOGY = "morphology_focus"
TRANSCRIPTS = "transcripts"

# --- coordinate systems ---
PIXELS = "global"
"""spatialdata-io's own: full-resolution image pixels."""
MICRONS = "microns"
"""Ours, on every element: micrometres, x to the right and y down. napari layers are shown in it."""

# --- the cell table: AnnData ---
SPATIAL = "spatial"
"""obsm: (n_cells, 2) float64, x and y of the cell's centroid in µm."""
ENSEMBL_ID = "ensembl_id"
"""var: Ensembl gene id without version; "" where it is not known."""
CELL_ID = "cell_id"
"""obs: the id that the instrument gave the cell, as a string; also the obs index."""
LABEL_VALUE = "cell_labels"
"""obs: the cell's value in the cell label image, int32, at least 1."""
REGION = "region"
ANNOTATION = "spatialdata_attrs"
"""uns: which element the table annotates and by which columns; SpatialData's own key."""
N_COUNTS = "n_counts"
N_GENES = "n_genes"
CONTROL_COUNTS = "control_counts"
LOW_COUNTS = "low_counts"
"""obs: True for cells under ``MIN_COUNTS`` counts."""

# --- what the engine adds ---
X_STPLM = "X_stplm"
"""obsm: (n_cells, dim) float32 cell embedding."""
PROBA = "stplm_proba"
"""obsm: (n_cells, n_classes) float32 class probabilities, columns as in uns["stplm"]["prediction"]["classes"]."""
CLASS = "stplm_class"
"""obs: categorical, the most probable class; missing for cells without counts."""
CONFIDENCE = "stplm_confidence"
"""obs: float32 in [0, 1], calibrated probability of the class; 0 for cells without counts."""
TUMOUR = "stplm_tumour"
"""obs: float32 in [0, 1], probability that the cell is a tumour cell; missing for cells without counts."""
UNKNOWN = "stplm_unknown"
"""obs: float32 in [0, 1], how unlike every labelled class the cell is: about the share of known cells that look less
strange; missing for cells without counts."""
CLUSTER = "stplm_cluster"
"""obs: categorical, cluster of the embedding, shown before anything is labelled."""
NICHE = "stplm_niche"
"""obs: categorical, cluster of what surrounds a cell."""
LABEL = "stplm_label"
"""obs: categorical, the class that the user gave the cell; written where a section is exported with labels."""
UMAP = "X_umap"
"""obsm: (n_cells, 2) float32, the cell's place on the map; the name that scanpy gives it."""
IMPUTED = "stplm_imputed"
"""obsm: (n_cells, n_genes) float32, expected counts of the genes in uns["stplm"]["imputed"]["genes"]."""
UNS = "stplm"
"""uns: provenance (nested dict of plain values), see the constants below."""
UNS_QC = "qc"
UNS_SOURCE = "source"
UNS_EMBEDDING = "embedding"
UNS_PREDICTION = "prediction"
UNS_IMPUTED = "imputed"
UNS_NICHES = "niches"
UNS_MAP = "map"

# --- the rule on faint cells ---
MIN_COUNTS = 10
"""Cells under this many counts are kept and flagged."""
STRANGE = 0.95
"""Unknown score above which a cell counts as unlike every class; one known cell in twenty is, too."""
UNASSIGNED = "Unassigned"
"""What exports call a cell without a class."""
