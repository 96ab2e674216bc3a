"""Promises of the two packages as a whole: who imports what, and what no file may do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import stplm

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "stplm").rglob("*.py"), *(ROOT / "stplm_napari").rglob("*.py")])


def _modules(package: str, under: str = "") -> list[str]:
    """Dotted names of a package's modules."""
    files = sorted((ROOT / package / under).rglob("*.py"))
    return [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files]


def _imported_by(modules: list[str]) -> set[str]:
    """Top-level packages in a fresh interpreter after importing ``modules`` there."""
    program = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


QT = {"qtpy", "napari", "PySide6", "PySide2", "PyQt5", "PyQt6", "vispy", "magicgui"}


def test_importing_the_engine_is_cheap() -> None:
    loaded = _imported_by(["stplm"])
    assert not loaded & {*QT, "torch", "numpy", "pandas", "anndata", "spatialdata", "sklearn"}


def test_no_module_of_the_engine_imports_qt_or_napari() -> None:
    modules = _modules("stplm")
    assert len(modules) > 50
    loaded = _imported_by(modules)
    assert "torch" in loaded
    assert not loaded & QT


def test_no_widget_imports_torch() -> None:
    pytest.importorskip("napari")
    loaded = _imported_by(_modules("stplm_napari", "widgets"))
    assert "stplm_napari" in loaded
    assert not loaded & {"torch", "transformers", "sklearn", "umap"}


def test_every_public_name_is_there() -> None:
    for name in stplm.__all__:
        assert getattr(stplm, name) is not None
    assert set(stplm.__all__) <= set(dir(stplm))
    with pytest.raises(AttributeError, match="telepathy"):
        stplm.telepathy  # noqa: B018


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _offences(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {name.partition(".")[0] for name in _imports(tree)}
    forbidden = SERIALISERS | DOWNLOADERS | (QT if path.is_relative_to(ROOT / "stplm") else set())
    yield from (f"imports {name}" for name in sorted(imported & forbidden))
    for call in _calls(tree):
        name = ast.unparse(call.func)
        if name in CALLS:
            yield f"calls {name}"
        if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords):
            yield "allows pickle"


SERIALISERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
DOWNLOADERS = {"requests", "urllib3", "httpx", "aiohttp", "pooch", "huggingface_hub"}
CALLS = {"print", "eval", "exec", "torch.load", "torch.save", "pd.read_pickle", "urlopen", "urlretrieve"}


def test_no_pickle_no_network_no_print() -> None:
    assert len(SOURCES) > 90
    assert {str(p.relative_to(ROOT)): found for p in SOURCES if (found := list(_offences(p)))} == {}


def test_a_file_has_one_subject_and_says_it() -> None:
    texts = {p: p.read_text(encoding="utf-8") for p in SOURCES}
    assert [p for p, text in texts.items() if len(text.splitlines()) >= 500] == []
    assert [p for p, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))] == []
