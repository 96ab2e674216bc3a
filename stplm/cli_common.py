"""What the commands have in common: lines, bars, whole numbers, sections, labels."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.io.export import Format
    from stplm.progress import Progress


def is_recipe(path: str) -> bool:
    """Whether an argument is a YAML file instead of a section."""
    return path.lower().endswith((".yaml", ".yml"))


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def say(line: str) -> None:
    """Write a line for the user."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def progress_bar(unit: str) -> Progress:
    """A bar on a terminal, nothing elsewhere; counts ``unit``."""
    from tqdm import tqdm

    bar = tqdm(unit=f" {unit}", disable=not sys.stderr.isatty(), leave=False)

    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return progress


def read_table(path: str, **parts: bool) -> tuple[Any, AnnData]:
    """A section and its cell table; ``parts`` as :func:`stplm.read_section` takes them."""
    import stplm

    section = stplm.read_section(path, **parts)
    return section, stplm.cell_table(section)


def read_labels(given: str) -> Any:
    """An obs column's name as it is; a CSV of cell ids and classes as a Series."""
    if not given.lower().endswith(".csv"):
        return given
    from stplm.io.label_csv import read_label_csv

    return read_label_csv(given)


def check_out(path: str, *, overwrite: bool = True) -> Format:
    """The format of an output; a name or a place that will not do is told before the work, not after."""
    from stplm.io.export import check_export

    return check_export(path, overwrite=overwrite)
