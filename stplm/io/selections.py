"""Xenium Explorer's CSV files: coordinates of selections, cells of a selection, cell groups.

What is out there, from Xenium Explorer 1 to 4:

- selection coordinates: ``#Selection name: …`` and ``#Area (µm^2): …`` over ``X,Y``; of several selections
  ``#Selection names: …`` and ``#Areas (µm^2): …`` over ``Selection,X,Y``, later with ``Class,Color``. Always µm.
- cells of a selection ("cells stats"): the same remarks over ``Cell ID,Cluster,Transcripts,Area (µm^2)`` and the like.
- cell groups: ``cell_id,group`` with or without ``color``.

Order and case of columns, remarks on top, a byte order mark, semicolons and decimal commas do not matter.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stplm.errors import ExportError
from stplm.io.exchange import MICRONS, UNKNOWN, Exchange, Outline, check_outlines, class_name, hexadecimal, open_ring
from stplm.io.rings import area, keyhole, parts
from stplm.io.staged import staged_file

if TYPE_CHECKING:
    import pandas as pd

_CELL = ("cell_id", "cellid", "cell", "barcode")
_GROUP = ("group", "class", "cell_type", "label", "cluster", "annotation")
_COLOUR = ("color", "colour")
_SELECTION = ("selection", "selection_name", "name")
_SAME_AREA = 0.02
_DECIMALS = 3


def parse_csv(text: str, where: Path) -> Exchange:
    """What a CSV of Xenium Explorer holds. Raises ExportError."""
    remarks, body = _split(text)
    header = body.split("\n", 1)[0]
    separator = next((s for s in ("\t", ";") if s in header), ",")
    columns = [_plain(name) for name in next(csv.reader([header], delimiter=separator), [])]
    if {"x", "y"} <= set(columns):
        return _coordinates(text, where, separator)
    if any(name in columns for name in _CELL):
        return _cells(body, columns, remarks, where, separator)
    raise ExportError(
        "This is no file of Xenium Explorer.",
        where=where,
        found=f"columns {', '.join(columns[:8])}" if columns else "an empty file",
        expected="X and Y of selections, or cell_id and group",
        mend="Export the selection as coordinates or as GeoJSON, or cell groups as CSV.",
    )


def write_selections(outlines: Sequence[Outline], path: str | Path, *, overwrite: bool = True) -> Path:
    """Write regions in µm as Xenium Explorer's selection coordinates (``Selection,X,Y,Class,Color``).

    The format has neither holes nor parts: a hole is joined to its outline by a cut of no width, and further parts
    become selections of their own, "name (2)".

    Raises
    ------
    ExportError
        There is nothing to write, or the file cannot be written.
    """
    check_outlines(outlines)
    rows = [
        (outline.name if i == 0 else f"{outline.name} ({i + 1})", keyhole(part), area(part), outline)
        for outline in outlines
        for i, part in enumerate(parts(outline.rings))
    ]
    with staged_file(path, overwrite=overwrite) as stage, stage.open("w", newline="", encoding="utf-8") as handle:
        handle.write(f"#Selection names: {', '.join(name for name, *_ in rows)}\n")
        handle.write(f"#Areas (µm^2): {', '.join(f'{size:.2f}' for _, _, size, _ in rows)}\n")
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("Selection", "X", "Y", "Class", "Color"))
        for name, ring, _, outline in rows:
            about = (outline.group or "Unclassified", outline.colour or "#C8C8C8")
            closed = np.round(np.concatenate([ring, ring[:1]]), _DECIMALS)
            writer.writerows((name, f"{x:.{_DECIMALS}f}", f"{y:.{_DECIMALS}f}", *about) for x, y in closed.tolist())
    return Path(path)


def _split(text: str) -> tuple[dict[str, str], str]:
    """Remarks on top as ``{name: value}`` in lower case, and the rest."""
    remarks: dict[str, str] = {}
    lines = text.split("\n")
    for i, line in enumerate(lines):
        bare = line.strip().strip('"').rstrip(",;")
        if bare.startswith("#"):
            name, _, value = bare.lstrip("# ").partition(":")
            remarks[name.strip().lower()] = value.strip()
        elif bare:
            return remarks, "\n".join(lines[i:])
    return remarks, ""


def _blocks(text: str) -> list[tuple[dict[str, str], list[str]]]:
    """A file that was put together from several: remarks and lines of each."""
    found: list[tuple[dict[str, str], list[str]]] = []
    for line in text.splitlines():
        if line.strip().strip('"').startswith("#"):
            if not found or found[-1][1]:
                found.append(({}, []))
            found[-1][0].update(_split(line)[0])
        elif line.strip(" ,;\t"):
            if not found:
                found.append(({}, []))
            found[-1][1].append(line)
    return found


def _coordinates(text: str, where: Path, separator: str) -> Exchange:
    outlines: list[Outline] = []
    colours: dict[str, str] = {}
    trusted = True
    notes: list[str] = []
    for remarks, lines in _blocks(text):
        if not lines:
            continue
        columns = [_plain(name) for name in next(csv.reader(lines[:1], delimiter=separator))]
        at = {name: columns.index(name) for name in columns}
        if not {"x", "y"} <= set(at):
            raise ExportError("A selection has no columns X and Y.", where=where, found=", ".join(columns))
        named, kind, ink = (next((at[c] for c in choice if c in at), None) for choice in (_SELECTION, _GROUP, _COLOUR))
        default = remarks.get("selection name") or remarks.get("selection names") or where.stem
        rings: dict[str, list[tuple[float, float]]] = {}
        about: dict[str, tuple[str, str]] = {}
        for number, row in enumerate(csv.reader(lines[1:], delimiter=separator), 2):
            try:
                name = default if named is None else row[named].strip()
                xy = _number(row[at["x"]], separator), _number(row[at["y"]], separator)
            except (IndexError, ValueError) as error:
                raise ExportError(
                    "A corner of a selection cannot be read.",
                    where=f"{where}, row {number}",
                    found=separator.join(row),
                    expected="numbers for X and Y",
                ) from error
            rings.setdefault(name, []).append(xy)
            if kind is not None or ink is not None:
                group = "" if kind is None else class_name(row[kind])
                about[name] = group, "" if ink is None else hexadecimal(row[ink])
        trusted &= _areas_fit(remarks, list(rings.values()))
        for name, points in rings.items():
            ring = open_ring(np.array(points))
            group, colour = about.get(name, ("", ""))
            if len(ring) < 3:
                notes.append(f"{name!r} has fewer than three corners and is left out.")
                continue
            outlines.append(Outline(name, (ring,), group, colour))
            if group and colour:
                colours.setdefault(group, colour)
    if not trusted:
        notes.append("The areas that the file states are not those of its outlines in µm.")
    return Exchange(
        "Xenium Explorer selections",
        MICRONS if trusted else UNKNOWN,
        tuple(outlines),
        colours=colours,
        notes=tuple(notes),
    )


def _areas_fit(remarks: Mapping[str, str], rings: Sequence[Sequence[tuple[float, float]]]) -> bool:
    """Whether the outlines have the areas that the file states in µm², where it states them."""
    stated = next((value for name, value in remarks.items() if name.startswith("area")), "")
    numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", stated)]
    if len(numbers) != len(rings) or not numbers:
        return True
    found = [area([open_ring(np.array(ring))]) for ring in rings if len(ring) > 2]
    # A line that crosses itself can be measured in two ways: most of them is enough.
    near = [abs(a - b) <= _SAME_AREA * max(a, b, 1.0) for a, b in zip(numbers, found, strict=False)]
    return not near or 2 * sum(near) >= len(near)


def _cells(body: str, columns: list[str], remarks: Mapping[str, str], where: Path, separator: str) -> Exchange:
    frame = _frame(body, columns, where, separator)
    cell = next(name for name in _CELL if name in columns)
    selection = next((name for name in _SELECTION if name in columns), None)
    chosen = remarks.get("selection name", "")
    kind = next((name for name in _GROUP if name in columns), None)
    if selection is not None or chosen:
        source, groups = "cells of Xenium Explorer selections", frame[selection] if selection else None
    elif kind is not None:
        source, groups = "Xenium Explorer cell groups", frame[kind]
    else:
        # What Xenium Explorer exports of a selection without a name: the cells alone.
        source, groups, chosen = "a list of cells", None, where.stem
    import pandas as pd

    names = pd.Series(chosen, index=frame.index) if groups is None else groups.map(class_name)
    cells = pd.Series(names.to_numpy(object), index=pd.Index(frame[cell].str.strip(), name="cell_id", dtype=object))
    cells = cells[(cells != "") & (cells.index != "")]
    notes = []
    if (twice := cells.index.duplicated()).any():
        notes.append(f"{int(twice.sum()):,} cells are named twice; the first class counts.")
        cells = cells[~twice]
    ink = next((name for name in _COLOUR if name in columns), None)
    colours = {}
    if ink is not None and groups is not None:
        first = frame.assign(_group=names).drop_duplicates("_group")
        colours = {g: c for g, c in zip(first["_group"], first[ink].map(hexadecimal), strict=True) if g and c}
    return Exchange(source, cells=cells, colours=colours, notes=tuple(notes))


def _frame(body: str, columns: list[str], where: Path, separator: str) -> pd.DataFrame:
    import pandas as pd

    try:
        # Names such as "NA" and "None" are names here.
        return pd.read_csv(
            io.StringIO(body), sep=separator, dtype=str, keep_default_na=False, header=0, names=columns, index_col=False
        )
    except ValueError as error:
        raise ExportError("The table of cells cannot be read.", where=where, found=str(error)) from error


def _plain(name: str) -> str:
    """A column's name: "Cell ID" and "cell_id" are one."""
    bare = re.sub(r"\(.*?\)|\[.*?\]", "", name.lstrip("\ufeff").strip().strip('"'))
    return re.sub(r"[\s_\-]+", "_", bare.strip()).lower()


def _number(text: str, separator: str) -> float:
    number = float(text.strip().replace(",", ".") if separator != "," else text)
    if not np.isfinite(number):
        raise ValueError(text)
    return number
