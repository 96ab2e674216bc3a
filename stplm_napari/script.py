"""A session as a Python script that replays without a window. No Qt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stplm.errors import ExportError, StplmError
from stplm_napari.steps import Step

_HEAD = '''"""What was done to a section in STPLM, to be run without a window: python {name}"""

import stplm
from stplm_napari import tasks
'''


def script(steps: Sequence[Step], name: str = "stplm_steps.py") -> str:
    """The steps of a session as Python source. The labels that were clicked are in it."""
    lines = [_HEAD.format(name=name)]
    for step in steps:
        lines += _LINES[step.name](step.params)
    return "\n".join(lines) + "\n"


def write_script(steps: Sequence[Step], path: Path, on_error: Callable[[StplmError], Any]) -> None:
    """Write :func:`script` to a file; what goes wrong is handed to ``on_error``."""
    try:
        path.write_text(script(steps, path.name), encoding="utf-8")
    except OSError as error:
        on_error(ExportError("The script cannot be written.", where=path, found=str(error)))


def _open(params: Mapping[str, Any]) -> list[str]:
    return [f"section = stplm.read_section({params['path']!r})", "table = stplm.cell_table(section)"]


def _embed(params: Mapping[str, Any]) -> list[str]:
    given = ", ".join(f"{key}={value!r}" for key, value in params.items())
    return [f"stplm.embed(table, {given})"]


def _classify(params: Mapping[str, Any]) -> list[str]:
    # JSON's layout with Python's constants: one class of labels a line.
    rows = [f"    {key!r}: {value!r}," for key, value in json.loads(json.dumps(dict(params))).items()]
    return ["classifier, labels = tasks.classify(", "    table,", "    {", *(f"    {r}" for r in rows), "    },", ")"]


def _regions(params: Mapping[str, Any]) -> list[str]:
    rows = [f"    {region!r}," for region in params["regions"]]
    return ["# Drawn regions: rings of (x, y) in µm, even-odd.", "regions = [", *rows, "]"]


def _export(params: Mapping[str, Any]) -> list[str]:
    given = ", ".join(f"{key}={value!r}" for key, value in params.items() if key != "path")
    return [f"tasks.export(section, table, {params['path']!r}, {given})"]


_LINES: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "open": _open,
    "embed": _embed,
    "classify": _classify,
    "regions": _regions,
    "export": _export,
}
