"""The rows that were measured: kept in one file, merged run by run, shown as one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from benchmarks.rows import Row, fill_growth
from stplm.io.staged import staged_file

NOT_MEASURED = "not measured"


def load(path: Path) -> list[Row]:
    """All rows of a file, none where there is no file; fields that a row does not have are passed over."""
    if not path.is_file():
        return []
    known = {field.name for field in fields(Row)}
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{name: value for name, value in row.items() if name in known}) for row in stored]


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows; a reader never sees half of them."""
    with staged_file(path) as part:
        part.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def merge(old: Sequence[Row], new: Sequence[Row], module: str, sizes: Sequence[int]) -> list[Row]:
    """``new`` rows in place of the old ones of their module.

    Rows of sizes that were not asked for stay. So does a row that was measured where the new one was not: what a
    machine with a GPU found is not lost on one without.
    """
    kept, fresh = [], {(row.name, row.cells): row for row in new}
    for row in old:
        if row.module != module:
            kept.append(row)
            continue
        again = fresh.get((row.name, row.cells))
        if again is None and row.cells not in sizes:
            kept.append(row)
        elif again is not None and again.ours is None and row.ours is not None:
            fresh[row.name, row.cells] = row
    own = [row for row in kept if row.module == module] + list(fresh.values())
    fill_growth(own)
    names = list(dict.fromkeys(row.name for row in own))
    own.sort(key=lambda row: (names.index(row.name), row.cells))
    others = [row for row in kept if row.module != module]
    before = [row for row in others if row.module < module]
    return before + own + [row for row in others if row.module > module]


def shown(rows: Sequence[Row]) -> str:
    """The table as Markdown: what was measured on which machine, and what each note says, below it."""
    notes: list[str] = []
    lines = [
        "| work | cells | ours | reference | times better | peak MB | agrees | growth | bar | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.note and row.note not in notes:
            notes.append(row.note)
        mark = f" [{notes.index(row.note) + 1}]" if row.note else ""
        reference = _figure(row.reference, row.unit)
        if row.reference_cells not in (None, row.cells):
            reference += f" (from {row.reference_cells:,} cells)"
        cells = [
            row.name + mark,
            f"{row.cells:,}",
            _figure(row.ours, row.unit) if row.ours is not None else NOT_MEASURED,
            reference,
            "–" if row.ratio is None else _number(row.ratio),
            "–" if row.peak_mb is None else f"{row.peak_mb:,.0f}",
            _yes(row.agrees),
            "–" if row.growth is None else f"{row.growth:.2f}",
            row.bar or "–",
            _yes(row.met),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    machines: dict[str, list[str]] = {}
    for row in rows:
        where = row.machine or "a machine that was not noted"
        if row.module not in machines.setdefault(where, []):
            machines[where].append(row.module)
    parts = ["\n".join(lines)]
    if notes:
        parts.append("\n".join(f"{i}. {note}" for i, note in enumerate(notes, 1)))
    parts.append("\n".join(f"- {', '.join(modules)}: {where}" for where, modules in machines.items()))
    return "\n\n".join(parts)


def _figure(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    """Three digits, all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _yes(value: bool | None) -> str:
    return "–" if value is None else "yes" if value else "**no**"
