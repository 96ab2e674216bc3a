"""Labels as a CSV of cell ids and classes: readable for people and for ``stplm classify --labels``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stplm import keys
from stplm.errors import LabelError
from stplm.io.staged import staged_file

if TYPE_CHECKING:
    import pandas as pd

_CLASS = ("class", "group", "cell_type", "label")


def read_label_csv(path: str | Path) -> pd.Series:
    """Class by cell id. Remarks on top (Xenium Explorer's) are passed over; "Unassigned" is no label.

    Raises
    ------
    LabelError
        The file cannot be read, or has no column ``cell_id`` or none of ``class``, ``group``, ``cell_type``, ``label``.
    """
    import pandas as pd

    try:
        # Elsewhere than on top a "#" belongs to a class name or a colour.
        with Path(path).open(encoding="utf-8-sig") as file:
            remarks = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), file))
        # "NA" and "None" are names here.
        frame = pd.read_csv(path, dtype=str, skiprows=remarks, encoding="utf-8-sig", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise LabelError("The label file cannot be read.", where=path, found=str(error)) from error
    column = next((c for c in _CLASS if c in frame), None)
    if "cell_id" not in frame or column is None:
        raise LabelError(
            "This is not a table of labels.",
            where=path,
            found=f"columns {', '.join(map(str, frame.columns))}",
            expected="a column cell_id and a column class (or group, cell_type, label)",
        )
    labels: pd.Series = frame.set_index("cell_id")[column]
    return labels[(labels != keys.UNASSIGNED) & (labels != "")]


def write_label_csv(labels: Mapping[str, Sequence[str]], path: str | Path) -> Path:
    """Write ``{class: [cell ids]}`` with the columns ``cell_id,class``. Raises ExportError."""
    import pandas as pd

    names = [name for name, cells in labels.items() for _ in range(len(cells))]
    ids = [cell for cells in labels.values() for cell in cells]
    with staged_file(path) as stage:
        pd.DataFrame({"cell_id": ids, "class": names}).to_csv(stage, index=False, lineterminator="\n")
    return Path(path)
