"""``stplm impute``: expected counts of genes that are masked, noisy or not in the panel."""

from __future__ import annotations

import argparse
from typing import Any

from stplm import keys
from stplm.cli_common import progress_bar, read_table, say
from stplm.errors import ExportError


def add_impute(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""
    about = "Expected counts of genes, from a cell's other genes, its neighbours, or a single-cell reference"
    sub = tasks.add_parser("impute", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("section", help="Xenium folder, SpatialData .zarr, .h5ad, .loom or cell_feature_matrix.h5")
    sub.add_argument("--genes", required=True, nargs="+", help="symbols or Ensembl ids")
    sub.add_argument("--reference", help="single-cell counts (.h5ad, .loom or .h5) for genes outside the panel")
    sub.add_argument("--model", default="default", help="a bundled model or a model folder")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", required=True, help=".h5ad or .zarr (everything), or .parquet (cells by genes)")


def run(arguments: argparse.Namespace) -> None:
    """Impute and write."""
    import stplm
    from stplm.io.export import check_export
    from stplm.io.staged import check_target, staged_file

    alone = arguments.out.lower().endswith(".parquet")
    if alone:
        check_target(arguments.out)
    elif check_export(arguments.out, overwrite=True) not in ("h5ad", "zarr"):
        raise ExportError("Imputed counts go into .h5ad, .zarr or .parquet.", where=arguments.out)
    reference = None
    if arguments.reference:
        _, reference = read_table(arguments.reference, images=False, labels=False)
    section, table = read_table(arguments.section, **({"images": False, "labels": False} if alone else {}))
    found = stplm.impute(
        table,
        arguments.model,
        genes=arguments.genes,
        reference=reference,
        device=arguments.device,
        seed=arguments.seed,
        progress=progress_bar("cells"),
    )
    about = table.uns[keys.UNS][keys.UNS_IMPUTED]
    for gene, how, r in zip(about["genes"], about["how"], about["r"], strict=True):
        say(f"  {gene}: from the {how}" + (f", r {r:.2f} in cells that the fit did not see" if r == r else ""))
    if alone:
        with staged_file(arguments.out, overwrite=True) as stage:
            found.to_parquet(stage)
    else:
        stplm.export(section, arguments.out, overwrite=True)
    say(f"Wrote {arguments.out}")
