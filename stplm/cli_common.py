"""What the commands have in common: lines, bars, whole numbers, sections, labels."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm import keys

if TYPE_CHECKING:
    from anndata import AnnData

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
    import pandas as pd

    from stplm.errors import LabelError

    try:
        # Xenium Explorer puts remarks on top; elsewhere a "#" belongs to a class name or a colour.
        with Path(given).open(encoding="utf-8-sig") as file:
            remarks = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), file))
        frame = pd.read_csv(given, dtype=str, skiprows=remarks, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise LabelError("The label file cannot be read.", where=given, found=str(error)) from error
    column = next((c for c in ("class", "group", "cell_type", "label") if c in frame), None)
    if "cell_id" not in frame or column is None:
        raise LabelError(
            "This is not a table of labels.",
            where=given,
            found=f"columns {', '.join(map(str, frame.columns))}",
            expected="a column cell_id and a column class (or group, cell_type, label)",
        )
    labels = frame.set_index("cell_id")[column]
    return labels[labels != keys.UNASSIGNED]
