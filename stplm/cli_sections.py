"""What commands on many sections have in common: which ones, a line for each, sums and failures at the end."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.cli_common import positive, say
from stplm.errors import StplmError

if TYPE_CHECKING:
    from stplm.tasks.section_runs import SectionRun

_WIDTH = 34


def add_sections(sub: argparse.ArgumentParser) -> None:
    """Put what says which sections, and who works on them, on a parser."""
    sub.add_argument(
        "--sections", nargs="+", help="many sections, with wildcards such as 'cohort/*'; --out is a folder"
    )
    sub.add_argument("--scheduler", metavar="ADDRESS", help="have the workers of a Dask scheduler do the work")
    sub.add_argument("--workers", type=positive, metavar="N", help="have N processes of this machine do it")
    sub.add_argument("--again", action="store_true", help="do finished sections again")


def chosen_sections(arguments: argparse.Namespace) -> bool:
    """Whether ``--sections`` stands in the place of one section. Raises StplmError for both, or neither."""
    if bool(arguments.section) == bool(arguments.sections):
        raise StplmError("Give one section, or --sections 'cohort/*'.")
    if arguments.section and (arguments.scheduler or arguments.workers):
        raise StplmError(
            "Workers are for --sections.", mend="Give --sections, with one section too, and a folder as --out."
        )
    return bool(arguments.sections)


def find_and_tell(patterns: Sequence[str], out: Path) -> list[Path]:
    """The sections that match. Raises RecipeError where there is none."""
    from stplm.tasks.cohort import find_sections

    sections, left_out = find_sections(patterns, out)
    if left_out:
        say(f"No sections, left out: {', '.join(path.name for path in left_out)}")
    say(f"{len(sections)} sections; results go to {out}.")
    return sections


def teller(total: int) -> Any:
    """What ``on_change`` takes: a line for each section that ends."""

    def tell(i: int, at: SectionRun) -> None:
        if at.state != "running":
            say(f"{i + 1:>4} of {total}  {_line(at)}")

    return tell


def tell_sums(runs: Sequence[SectionRun], more: str = "") -> None:
    """How many were done, and which failed. Raises StplmError when one did."""
    failed = [at for at in runs if at.state == "failed"]
    say(_sums(runs) + more)
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
