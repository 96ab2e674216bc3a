"""``stplm run``: what was done to one section, done to a cohort; goes on where it stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stplm.cli_common import progress_bar
from stplm.cli_sections import add_sections, find_and_tell, tell_sums, teller
from stplm.errors import StplmError


def add_run(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""
    about = "Replay a recipe on many sections; finished ones are not done again"
    sub = tasks.add_parser("run", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("recipe", help="a .yaml file, as the Export dock's Recipe… writes it")
    add_sections(sub)
    sub.add_argument("--out", type=Path, help="folder of the results, one folder a section")


def run(arguments: argparse.Namespace) -> None:
    """Run the recipe. Raises StplmError at the end when a section failed."""
    from stplm.tasks.cohort import read_run_recipe
    from stplm.tasks.cohort_run import OVERVIEW, run_recipe

    recipe = read_run_recipe(arguments.recipe)
    patterns = arguments.sections or [str(path) for path in recipe.sections]
    if not patterns:
        raise StplmError("No sections are given.", mend="Add --sections 'cohort/*', or sections: to the recipe.")
    out = (
        arguments.out
        or recipe.out
        or Path(arguments.recipe).with_suffix("").with_name(f"{Path(arguments.recipe).stem}_results")
    )
    sections = find_and_tell(patterns, out)
    runs = run_recipe(
        recipe,
        sections,
        out,
        scheduler=arguments.scheduler,
        workers=arguments.workers,
        resume=not arguments.again,
        on_change=teller(len(sections)),
        progress=progress_bar("hundredths of a section"),
    )
    tell_sums(runs, f" Overview: {out / OVERVIEW}")
