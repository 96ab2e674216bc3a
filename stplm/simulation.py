"""A synthetic Xenium section of any size whose truth is known, for tests, demonstrations and timing.

Cells of the shipped reference profiles are laid out in tumour nests with a myoepithelial rim, immune infiltrates and
stroma. Counts are negative binomial around the class profile, as counts of one class in real sections are wider than
Poisson. Everything follows from the seed; label and DAPI images are drawn tile by tile.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stplm.errors import ExportError
from stplm.io.bundle import PIXEL_SIZE, write_bundle
from stplm.io.bundle_outlines import Outlines
from stplm.io.bundle_tables import write_parquet
from stplm.io.cell_ids import encode_cell_ids
from stplm.palette import is_tumour_name
from stplm.paths import resource
from stplm.progress import Progress, no_progress
from stplm.simulation_counts import draw_counts
from stplm.simulation_tissue import Tissue, lay_out

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

TRUTH = "truth.parquet"
"""Beside the bundle's own files: ``cell_id``, ``class``, ``tumour``, ``region``, ``library_size``."""
AMBIENT = 0.02
"""Share of a cell's counts that comes from the section's mean profile: transcripts spill over."""


@dataclass(frozen=True)
class Panel:
    """Feature table and class rates, (classes, genes), each row summing to 1."""

    features: pd.DataFrame
    rates: npt.NDArray[np.float64]


def simulate_section(
    path: str | Path,
    *,
    cells: int = 10_000,
    genes: int | None = None,
    panel: str | None = None,
    profiles: str = "breast",
    median_counts: float = 150.0,
    controls: int = 20,
    image: bool = True,
    transcripts: bool = False,
    pixel_size: float = PIXEL_SIZE,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Write a synthetic Xenium bundle; give its path.

    Parameters
    ----------
    path
        The folder to make; ``truth.parquet`` in it tells every cell's class and region.
    cells
        How many cells, at least 1.
    genes
        Panel size. Fewer than the profiles' genes: an even choice of them. More: genes without a class follow, named
        ``SIM00001``, .... By default all genes of the profiles.
    panel
        Instead of ``genes``: the genes of a 10x panel that ships (:func:`stplm.tokens.panels.list_panels`), e.g.
        "hMulti" or "hPrime5K". A gene that the profiles know has its measured rates; each other one has those of a
        measured gene drawn at random, over all classes, times a log-normal factor: sizes and sparsity are those of a
        real section, but which class such a gene belongs to is made up.
    profiles
        A shipped profile table (``resources/profiles/<name>.csv``).
    median_counts
        Median counts per cell.
    controls
        Negative control probes.
    image
        Draw a DAPI image. Without it, and with a coarser ``pixel_size``, a large section needs far less room.
    transcripts
        Write one row a transcript, placed inside its cell; a hundred million rows for a million cells.
    pixel_size
        µm per pixel of the label images and the DAPI image.
    seed
        Same seed and parameters, same bytes.

    Raises
    ------
    ExportError
        The folder cannot be made, ``cells`` or ``genes`` is not positive, or ``genes`` and ``panel`` are both given.
    StplmError
        No profile table or panel of that name is shipped.
    """
    import pandas as pd

    table = read_profiles(profiles, cells, genes, panel)
    rng = np.random.default_rng(seed)
    steps = 4
    progress(0, steps)
    tissue = lay_out(cells, list(table.index), rng)
    measured = simulated_panel(table, genes, panel, controls, rng)
    progress(1, steps)
    size = median_counts * rng.lognormal(0.0, 0.5, cells)
    counts = draw_counts(measured.rates, tissue.kind, size, controls, rng)
    ids = encode_cell_ids(np.arange(1, cells + 1))
    progress(2, steps)
    frame = pd.DataFrame(
        {
            "cell_id": ids,
            "x_centroid": tissue.xy[:, 0],
            "y_centroid": tissue.xy[:, 1],
            "cell_area": tissue.area(),
            "nucleus_area": np.pi * tissue.nucleus_radius**2,
            "nucleus_count": 1,
        }
    )
    points = _place_transcripts(tissue, counts, measured.features, ids, rng) if transcripts else None
    with tempfile.TemporaryDirectory(prefix="stplm_") as scratch:
        folder = write_bundle(
            path,
            counts=counts,
            features=measured.features,
            cells=frame,
            cell_labels=tissue.raster(pixel_size),
            nucleus_labels=tissue.raster(pixel_size, nuclei=True),
            image=tissue.dapi(pixel_size, seed, Path(scratch) / "dapi") if image else None,
            pixel_size=pixel_size,
            transcripts=points,
            cell_outlines=Outlines.from_regular(tissue.outlines()),
            nucleus_outlines=Outlines.from_regular(tissue.nucleus_outlines()),
            experiment={
                "run_name": "STPLM simulated section",
                "region_name": f"{cells} cells, seed {seed}",
                "panel_name": f"simulated from profiles {profiles!r}" + (f", panel {panel}" if panel else ""),
            },
            method="Simulated",
            overwrite=overwrite,
        )
    progress(3, steps)
    names = np.asarray(table.index)[tissue.kind]
    truth = pd.DataFrame(
        {
            "cell_id": ids,
            "class": names,
            "tumour": np.array([is_tumour_name(name) for name in table.index])[tissue.kind],
            "region": tissue.region_names(),
            "library_size": size.astype(np.float32),
        }
    )
    write_parquet(truth, folder / TRUTH)
    progress(steps, steps)
    return folder


def read_profiles(profiles: str, cells: int, genes: int | None, panel: str | None) -> pd.DataFrame:
    """A profile table, rows named by class; errors as :func:`simulate_section` has them for what it is asked for."""
    import pandas as pd

    if cells < 1 or (genes is not None and genes < 1):
        raise ExportError(
            "A section needs cells and genes.", found=f"{cells} cells, {genes} genes", expected="1 or more"
        )
    if genes is not None and panel is not None:
        raise ExportError(
            "A section has either a panel or a number of genes.",
            found=f"panel {panel!r} and {genes} genes",
            mend="Leave one of them out.",
        )
    return pd.read_csv(resource(f"profiles/{profiles}.csv"), index_col="class")


def simulated_panel(
    table: pd.DataFrame, genes: int | None, panel: str | None, controls: int, rng: np.random.Generator
) -> Panel:
    """The genes of a section and their rates, as :func:`simulate_section` is asked for them."""
    if panel is None:
        return _panel(table, genes, controls, rng)
    return _shipped_panel(table, panel, controls, rng)


def _panel(table: pd.DataFrame, genes: int | None, controls: int, rng: np.random.Generator) -> Panel:
    from stplm.tokens.vocabulary import match_genes

    rates = np.expm1(table.to_numpy(dtype=np.float64))
    symbols = list(table.columns)
    if genes is not None and genes < len(symbols):
        kept = np.unique(np.linspace(0, len(symbols) - 1, genes).round().astype(int))
        rates, symbols = rates[:, kept], [symbols[i] for i in kept]
    identifiers = [str(found) or symbol for found, symbol in zip(match_genes(symbols), symbols, strict=True)]
    extra = 0 if genes is None else genes - len(symbols)
    if extra > 0:
        # Genes without a class: rates as skewed as those of the real genes, the same in every class.
        level = rng.choice(rates.mean(axis=0), extra)
        rates = np.hstack([rates, np.broadcast_to(level, (len(rates), extra))])
        names = [f"SIM{i:05d}" for i in range(1, extra + 1)]
        symbols, identifiers = symbols + names, identifiers + names
    return _with_controls(rates, symbols, identifiers, controls)


def _shipped_panel(table: pd.DataFrame, name: str, controls: int, rng: np.random.Generator) -> Panel:
    from stplm.tokens.panels import panel
    from stplm.tokens.vocabulary import gene_places, match_genes

    rates = np.expm1(table.to_numpy(dtype=np.float64))
    genes = panel(name)
    places = gene_places(genes["ensembl_id"].to_numpy(dtype=str), match_genes(list(table.columns)))
    unknown = np.flatnonzero(places < 0)
    places[unknown] = rng.integers(0, rates.shape[1], len(unknown))
    factor = np.ones(len(places))
    factor[unknown] = rng.lognormal(0.0, 0.5, len(unknown))
    return _with_controls(rates[:, places] * factor, list(genes["symbol"]), list(genes["ensembl_id"]), controls)


def _with_controls(rates: npt.NDArray[np.float64], symbols: list[str], identifiers: list[str], controls: int) -> Panel:
    """Rates as shares of a cell's counts, some of them ambient; control probes behind the genes."""
    import pandas as pd

    rates = rates / rates.sum(axis=1, keepdims=True)
    rates = (1 - AMBIENT) * rates + AMBIENT * rates.mean(axis=0)
    probes = [f"NegControlProbe_{i:05d}" for i in range(1, controls + 1)]
    kinds = ["Gene Expression"] * len(symbols) + ["Negative Control Probe"] * controls
    features = pd.DataFrame({"id": identifiers + probes, "name": symbols + probes, "feature_type": kinds})
    return Panel(features, rates)


def _place_transcripts(
    tissue: Tissue,
    counts: csr_matrix,
    features: pd.DataFrame,
    ids: npt.NDArray[np.str_],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """One row a counted transcript, uniform over its cell."""
    import pandas as pd

    coordinates = counts.tocoo()
    cell = np.repeat(coordinates.row, coordinates.data).astype(np.int64)
    feature = np.repeat(coordinates.col, coordinates.data)
    xy, nuclear = tissue.scatter(cell, rng)
    return pd.DataFrame(
        {
            "cell_id": ids[cell],
            "overlaps_nucleus": nuclear,
            "feature_name": features["name"].to_numpy()[feature],
            "x_location": xy[:, 0],
            "y_location": xy[:, 1],
            "z_location": rng.uniform(5, 25, len(cell)),
            "qv": np.full(len(cell), 40.0),
        }
    )
