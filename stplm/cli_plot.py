"""``stplm plot``: the map, a clustered heatmap or the tissue as a picture."""

from __future__ import annotations

import argparse
from typing import Any

from stplm import keys
from stplm.cli_common import positive, progress_bar, read_table, say

_MAP, _HEATMAP, _TISSUE = "umap", "heatmap", "tissue"


def add_plot(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""
    about = "Draw the map (UMAP), a clustered heatmap or the tissue, by any label or gene, as PNG, SVG or PDF"
    sub = tasks.add_parser("plot", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("section", help="Xenium folder, SpatialData .zarr, .h5ad or .loom")
    sub.add_argument("--kind", default=_MAP, choices=[_MAP, _HEATMAP, _TISSUE])
    sub.add_argument(
        "--by",
        help="an obs column, or a gene (not for a heatmap); by default the predicted class, else the embedding cluster",
    )
    sub.add_argument("--out", required=True, help=".png, .svg or .pdf")
    sub.add_argument("--of", default="genes", choices=["genes", "vectors"], help="what a heatmap shows the means of")
    sub.add_argument("--genes", nargs="+", metavar="GENE", help="of a heatmap; by default each group's markers")
    sub.add_argument("--title", help='by default the section\'s name; "" for none')
    sub.add_argument("--width", type=float, default=7.2, help="inches (7.2: two columns of a journal)")
    sub.add_argument("--dpi", type=positive, default=300, help="pixels an inch")
    sub.add_argument("--model", default="default", help="to embed with, where the section is not embedded")
    sub.add_argument("--neighbours", type=positive, default=15, help="of the map: few show detail, many the whole")
    sub.add_argument("--min-dist", type=float, default=0.1, help="of the map: how close cells may lie, 0 to 1")
    sub.add_argument("--sample", type=positive, default=50_000, help="of the map: cells it is fitted on")
    sub.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> None:
    """Draw, after embedding and mapping what has not been."""
    import stplm
    from stplm.io.staged import check_target
    from stplm.report.cell_map import plot_map
    from stplm.report.figures import check_picture
    from stplm.report.heatmap import plot_heatmap
    from stplm.report.tissue import plot_tissue

    check_picture(arguments.out)
    check_target(arguments.out)
    tissue = arguments.kind == _TISSUE
    section, table = read_table(arguments.section, images=tissue, labels=tissue)
    by = arguments.by or (keys.CLASS if keys.CLASS in table.obs else keys.CLUSTER)
    needs_map = arguments.kind == _MAP and keys.UMAP not in table.obsm
    of_vectors = arguments.kind == _HEATMAP and arguments.of == "vectors"
    unmade = by == keys.CLUSTER and by not in table.obs
    if unmade or ((needs_map or of_vectors) and keys.X_STPLM not in table.obsm):
        stplm.embed(table, arguments.model, seed=arguments.seed, progress=progress_bar("cells"))
    if needs_map:
        stplm.umap(
            table,
            neighbours=arguments.neighbours,
            min_dist=arguments.min_dist,
            sample=arguments.sample,
            seed=arguments.seed,
            progress=progress_bar("cells"),
        )
    look = {"title": arguments.title, "width_in": arguments.width, "dpi": arguments.dpi}
    if arguments.kind == _MAP:
        plot_map(table, by, arguments.out, **look)
    elif arguments.kind == _HEATMAP:
        plot_heatmap(table, by, arguments.out, of=arguments.of, genes=arguments.genes, **look)
    else:
        plot_tissue(section, by, arguments.out, **look)
    say(f"Wrote {arguments.out}")
