"""A session as a Python script or a Jupyter notebook that replays without a window. No Qt.

What each step becomes is said by a line writer, registered with :func:`writes` in the module that runs the step. A step
that has none is told in a remark, and the rest of the script stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stplm import __version__
from stplm.io.label_csv import write_label_csv
from stplm.io.staged import staged_file
from stplm_napari.steps import Step

INLINE = 400
"""So many cell ids at most stand in the script itself; more go into a CSV beside it."""
_CORNERS = 2_000
"""Regions with more corners than this go into a JSON file beside it."""
_WIDTH = 110
_MOST_WORDS = 300
_OWN_WAY = ("path", "what", "labels", "overwrite", "regions")

Writer = Callable[[Mapping[str, Any], "Beside"], list[str]]
_WRITERS: dict[str, tuple[str, Writer]] = {}


def writes(step: str, title: str = "") -> Callable[[Writer], Writer]:
    """Register how a step is written: ``writer(params, beside)`` gives lines of Python.

    The lines find ``stplm``, ``tasks``, ``replay``, ``section`` and ``table``, and ``HERE`` and ``OUT``, the folders of
    the script and of what it writes. ``title`` stands over them.
    """

    def register(writer: Writer) -> Writer:
        _WRITERS[step] = title, writer
        return writer

    return register


@dataclass
class Beside:
    """Files that lie beside a script, and what writers share."""

    stem: str
    labels: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """File name -> ``{class: [cell ids]}``."""
    regions: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    _known: list[tuple[Mapping[str, Sequence[str]], str]] = field(default_factory=list)

    def labels_of(self, labels: Mapping[str, Sequence[str]], name: str = "") -> str:
        """A Python expression for ``{class: [cell ids]}``: itself, a file's, or the variable ``name`` of equal ones."""
        for known, variable in self._known:
            if known == labels:
                return variable
        if sum(map(len, labels.values())) <= INLINE:
            made = pretty({k: list(v) for k, v in labels.items()})
        else:
            number = f"-{len(self.labels) + 1}" if self.labels else ""
            file = f"{self.stem}.labels{number}.csv"
            self.labels[file] = labels
            made = f"replay.labels_from(HERE / {file!r})"
        if name:
            self._known.append((labels, name))
        return made

    def regions_of(self, regions: Sequence[Mapping[str, Any]]) -> str:
        """A Python expression for regions: themselves, or a file's."""
        if sum(len(ring) for region in regions for ring in region["rings"]) <= _CORNERS:
            return pretty(list(regions))
        file = next((name for name, known in self.regions.items() if known == regions), "")
        if not file:
            file = f"{self.stem}.regions{f'-{len(self.regions) + 1}' if self.regions else ''}.json"
            self.regions[file] = regions
        return f"replay.regions_from(HERE / {file!r})"

    def write(self, folder: Path) -> list[Path]:
        """Write the files."""
        written = [write_label_csv(labels, folder / name) for name, labels in self.labels.items()]
        for name, regions in self.regions.items():
            with staged_file(folder / name) as part:
                part.write_text(json.dumps(regions, ensure_ascii=False), encoding="utf-8")
            written.append(folder / name)
        return written


@dataclass(frozen=True)
class Part:
    """A step as it is written."""

    title: str
    lines: tuple[str, ...]


def parts(steps: Sequence[Step], beside: Beside) -> list[Part]:
    """Each step as lines of Python under a title."""
    made = []
    if not any(step.name == "open" for step in steps):
        words = "# The section was not opened from a file: say here where it is.\n"
        made.append(Part("The section", (words, *_open({"path": "section"}, beside))))
    for step in steps:
        if step.name in _WRITERS:
            title, writer = _WRITERS[step.name]
            made.append(Part(title or step.name, tuple(writer(step.params, beside))))
        else:
            words = json.dumps(dict(step.params), ensure_ascii=False, default=str)
            words = words if len(words) <= _MOST_WORDS else words[:_MOST_WORDS] + " …"
            made.append(Part(f"Done in the window, not repeated here: {step.name}", (f"# {words}",)))
    return made


def script(steps: Sequence[Step], name: str = "stplm_steps.py", beside: Beside | None = None) -> str:
    """The steps of a session as Python source; what is too large to be read in it is noted in ``beside``."""
    beside = Beside(Path(name).stem) if beside is None else beside
    body = parts(steps, beside)
    lines = [
        f'"""What was done to a section in STPLM {__version__}, without a window: python {name} [RESULT.h5ad]"""',
        "",
        "import sys",
        "from pathlib import Path",
        "",
        *_IMPORTS,
        "",
        'HERE = Path(globals().get("__file__", "")).resolve().parent',
        f"OUT = HERE / {_out(beside)!r}",
    ]
    for part in body:
        lines += ["", f"# {part.title}", *part.lines]
    lines += [
        "",
        'if __name__ == "__main__" and len(sys.argv) > 1:',
        "    stplm.export(section, sys.argv[1], overwrite=True)",
    ]
    return "\n".join(lines) + "\n"


def notebook(steps: Sequence[Step], name: str = "stplm_steps.ipynb", beside: Beside | None = None) -> str:
    """The same as a Jupyter notebook (nbformat 4.5): a heading and a cell a step, then the tissue."""
    beside = Beside(Path(name).stem) if beside is None else beside
    body = parts(steps, beside)
    start = [*_IMPORTS, "from pathlib import Path", "", "HERE = Path.cwd()", f"OUT = HERE / {_out(beside)!r}"]
    cells = [_markdown(f"# What was done to a section in STPLM\n\nMade by STPLM {__version__}."), _code(start)]
    for part in body:
        cells += [_markdown(f"## {part.title}"), _code(part.lines)]
    if any(step.name == "classify" for step in steps):
        look = ["from stplm.report.tissue import plot_tissue", "", "plot_tissue(section, dpi=110)"]
        cells += [_markdown("## The tissue"), _code(['table.obs["stplm_class"].value_counts()']), _code(look)]
    for i, cell in enumerate(cells):
        cell["id"] = f"step-{i}"
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    document = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def write_script(steps: Sequence[Step], path: str | Path) -> Path:
    """Write a script, or a notebook where ``path`` ends in .ipynb, and the files beside it. Raises ExportError."""
    path = Path(path)
    beside = Beside(path.stem)
    text = (notebook if path.suffix.lower() == ".ipynb" else script)(steps, path.name, beside)
    beside.write(path.parent)
    with staged_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


# --- what the steps of the engine's main path become ---

_IMPORTS = ("import stplm", "from stplm_napari import replay, tasks")


@writes("open", "The section")
def _open(params: Mapping[str, Any], beside: Beside) -> list[str]:
    return [f"section = stplm.read_section({params['path']!r})", "table = stplm.cell_table(section)"]


@writes("regions", "Drawn regions: rings of (x, y) in µm, even-odd")
def _regions(params: Mapping[str, Any], beside: Beside) -> list[str]:
    return [f"regions = {beside.regions_of(params['regions'])}"]


@writes("labels", "Classes and labels as they were when this was exported")
def _labels(params: Mapping[str, Any], beside: Beside) -> list[str]:
    return [
        f"classes = {pretty(list(params['classes']))}",
        f"labels = {beside.labels_of(params['labels'], 'labels')}",
        "replay.put_labels(table, labels, classes)",
    ]


@writes("embed", "A vector for every cell")
def _embed(params: Mapping[str, Any], beside: Beside) -> list[str]:
    given = ", ".join(f"{key}={value!r}" for key, value in params.items())
    if not params.get("adapt"):
        return [f"stplm.embed(table, {given})"]
    return ["OUT.mkdir(exist_ok=True)", f"stplm.embed(table, {given}, keep_adapted=OUT / 'adapted')"]


@writes("umap", "A map of the cells")
def _umap(params: Mapping[str, Any], beside: Beside) -> list[str]:
    given = "".join(f", {key}={value!r}" for key, value in params.items())
    return [f"stplm.umap(table{given})"]


@writes("classify", "A class for every cell")
def _classify(params: Mapping[str, Any], beside: Beside) -> list[str]:
    rows = {key: pretty(value, 4) for key, value in params.items() if key != "labels"}
    own = params.get("labels", {})
    rows["labels"] = beside.labels_of(own)
    remark = [] if rows["labels"] == "labels" or not own else ["# Learnt from labels that were changed afterwards."]
    lines = [f"    {key!r}: {value}," for key, value in rows.items()]
    return [*remark, "given = {", *lines, "}", "classifier, learnt = tasks.classify(table, given)"]


@writes("export", "An export")
def _export(params: Mapping[str, Any], beside: Beside) -> list[str]:
    rest = {key: pretty(value) for key, value in params.items() if key not in _OWN_WAY}
    if "regions" in params:
        rest["regions"] = beside.regions_of(params["regions"])
    if params.get("labels"):
        rest["labels"] = beside.labels_of(params["labels"])
    given = "".join(f", {key}={value}" for key, value in rest.items())
    path = f"OUT / {Path(params['path']).name!r}"
    return [
        "OUT.mkdir(exist_ok=True)",
        f"tasks.export(section, table, {path}, {params['what']!r}, overwrite=True{given})",
    ]


def pretty(value: Any, indent: int = 0) -> str:
    """As Python: in one line where there is room, else an entry a line, and many plain ones filled into lines."""
    whole = repr(value)
    if len(whole) + indent <= _WIDTH or not isinstance(value, dict | list) or not value:
        return whole
    pad, end = " " * (indent + 4), " " * indent
    if isinstance(value, dict):
        rows = [f"{pad}{key!r}: {pretty(entry, indent + 4)}," for key, entry in value.items()]
        return "\n".join(["{", *rows, end + "}"])
    if any(isinstance(entry, dict | list) for entry in value):
        return "\n".join(["[", *(f"{pad}{pretty(entry, indent + 4)}," for entry in value), end + "]"])
    lines = [pad]
    for entry in map(repr, value):
        if len(lines[-1]) + len(entry) > _WIDTH and lines[-1] != pad:
            lines.append(pad)
        lines[-1] += ("" if lines[-1] == pad else " ") + entry + ","
    return "\n".join(["[", *lines, end + "]"])


def _out(beside: Beside) -> str:
    return f"{beside.stem}_output"


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(lines: Sequence[str]) -> dict[str, Any]:
    source = "\n".join(lines).splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
