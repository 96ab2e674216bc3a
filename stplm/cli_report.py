"""``stplm report``: all that was found in a section, as one HTML file."""

from __future__ import annotations

import argparse
from typing import Any

from stplm import keys
from stplm.cli_common import read_labels, read_table, say


def add_report(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""
    about = (
        "One HTML file of a classified section: maps, scores, marker genes, neighbourhoods, perturbations, provenance"
    )
    sub = tasks.add_parser("report", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("section", help="a classified section: .h5ad or .zarr that stplm classify or the plugin wrote")
    sub.add_argument("--out", required=True, help="the .html file")
    sub.add_argument("--truth", help="labels to score against: an obs column, or a CSV of cell_id and class")
    sub.add_argument("--perturbation", nargs="*", default=[], help="folders that stplm perturb wrote")
    sub.add_argument("--niches", type=int, metavar="N", help="find so many niches first, where there are none yet")


def run(arguments: argparse.Namespace) -> None:
    """Read, find niches where asked to, write."""
    import stplm
    from stplm.report.report import write_report
    from stplm.report.summary import check_summary

    check_summary(arguments.out)
    section, table = read_table(arguments.section)
    if arguments.niches and keys.NICHE not in table.obs:
        stplm.niches(table, arguments.niches)
    truth = None if arguments.truth is None else read_labels(arguments.truth)
    say(f"Wrote {write_report(section, arguments.out, truth=truth, perturbations=arguments.perturbation)}")
