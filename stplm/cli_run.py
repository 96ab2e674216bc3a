"""``stplm run``: what was done to one section, done to a cohort; goes on where it stopped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.cli_common import progress_bar, say
from stplm.errors import StplmError

if TYPE_CHECKING:
    from stplm.tasks.section_runs import SectionRun

_WIDTH = 34


def add_run(tasks: Any) -> None:
    """Put the task on the parser's ``tasks`` (what ``add_subparsers`` gave)."""
    about = "Replay a recipe on many sections; finished ones are not done again"
    sub = tasks.add_parser("run", help=about, description=about)
    sub.set_defaults(run=run)
    sub.add_argument("recipe", help="a .yaml file, as the Export dock's Recipe… writes it")
    sub.add_argument("--sections", nargs="+", help="sections, with wildcards such as 'cohort/*'")
    sub.add_argument("--out", type=Path, help="folder of the results, one folder a section")
    sub.add_argument("--again", action="store_true", help="do finished sections again")


def run(arguments: argparse.Namespace) -> None:
    """Run the recipe. Raises StplmError at the end when a section failed."""
    from stplm.tasks.cohort import OVERVIEW, find_sections, read_run_recipe, run_recipe

    recipe = read_run_recipe(arguments.recipe)
    patterns = arguments.sections or [str(path) for path in recipe.sections]
    if not patterns:
        raise StplmError("No sections are given.", mend="Add --sections 'cohort/*', or sections: to the recipe.")
    out = (
        arguments.out
        or recipe.out
        or Path(arguments.recipe).with_suffix("").with_name(f"{Path(arguments.recipe).stem}_results")
    )
    sections, left_out = find_sections(patterns, out)
    if left_out:
        say(f"No sections, left out: {', '.join(path.name for path in left_out)}")
    say(f"{len(sections)} sections; results go to {out}.")

    def tell(i: int, at: SectionRun) -> None:
        if at.state != "running":
            say(f"{i + 1:>4} of {len(sections)}  {_line(at)}")

    runs = run_recipe(
        recipe,
        sections,
        out,
        resume=not arguments.again,
        on_change=tell,
        progress=progress_bar("hundredths of a section"),
    )
    failed = [at for at in runs if at.state == "failed"]
    say(_sums(runs) + f" Overview: {out / OVERVIEW}")
    if failed:
        raise StplmError(
            f"{len(failed)} of {len(runs)} sections failed.",
            found="\n" + "\n".join(f"  {_short(at.folder.name)}  {_reason(at)}" for at in failed),
            mend="Mend or remove them, and run the same line again: only these are done then.",
        )


def _line(at: SectionRun) -> str:
    if at.state == "failed":
        return f"{_short(at.folder.name)}  FAILED: {_reason(at)}"
    tumour = "" if at.tumour is None else f", {at.tumour:.0%} tumour"
    when = "done already" if at.state == "skipped" else f"{at.seconds:,.0f} s"
    return f"{_short(at.folder.name)}  {at.cells:,} cells{tumour}, {when}"


def _reason(at: SectionRun) -> str:
    return "" if at.error is None else at.error.problem


def _short(name: str) -> str:
    return (name if len(name) <= _WIDTH else name[: _WIDTH - 1] + "…").ljust(_WIDTH)


def _sums(runs: Sequence[SectionRun]) -> str:
    numbers = {state: sum(at.state == state for at in runs) for state in ("done", "skipped", "failed")}
    return f"{numbers['done']} done, {numbers['skipped']} done before, {numbers['failed']} failed."
