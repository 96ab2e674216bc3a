"""napari finds the docks, the reader and the sample, and the reader takes only what is a section."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "stplm_napari" / "napari.yaml"
DOCKS = [
    "Section",
    "Embed",
    "Map",
    "Annotate",
    "Learn",
    "Classify",
    "View",
    "Inspect",
    "Perturb",
    "Fine-tune",
    "Apply",
    "Import",
    "Explore",
    "Export",
]


@pytest.fixture(scope="module")
def manifest() -> Any:
    from npe2 import PluginManifest

    return PluginManifest.from_file(MANIFEST)


def test_the_manifest_is_valid_and_everything_it_names_exists(manifest: Any) -> None:
    manifest.validate_imports()
    assert (manifest.name, manifest.display_name) == ("stplm-napari", "STPLM")
    assert [widget.display_name for widget in manifest.contributions.widgets] == DOCKS


def test_a_xenium_folder_and_its_kin_are_accepted(demo_path: Path, tmp_path: Path) -> None:
    from stplm_napari.reader import get_reader, read

    for path in (demo_path, demo_path / "experiment.xenium", demo_path / "cell_feature_matrix.h5"):
        assert get_reader(str(path)) is read, path
    assert get_reader([str(demo_path)]) is read
    bare = tmp_path / "outs"
    bare.mkdir()
    (bare / "cell_feature_matrix.h5").write_bytes(b"damaged")
    assert get_reader(str(bare)) is read, "what is wrong with a bundle is the engine's to say"


def test_other_files_and_folders_are_left_to_others(tmp_path: Path) -> None:
    import h5py
    import numpy as np

    from stplm_napari.reader import get_reader

    with h5py.File(tmp_path / "stack.h5", "w") as file:
        file["image"] = np.zeros((4, 4))
    (tmp_path / "image.zarr" / "0").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("stack.h5", "image.zarr", "photos", "notes.txt", "absent.h5ad"):
        assert get_reader(str(tmp_path / name)) is None, name
    assert get_reader([str(tmp_path / "photos"), str(tmp_path / "photos")]) is None


def test_an_h5ad_with_cells_is_accepted(tmp_path: Path) -> None:
    import anndata
    import numpy as np

    from stplm_napari.reader import get_reader

    anndata.AnnData(np.zeros((2, 2), np.float32)).write_h5ad(tmp_path / "cells.h5ad")
    assert get_reader(str(tmp_path / "cells.h5ad")) is not None


def test_without_a_window_the_reader_returns_layers_in_microns(demo_path: Path, monkeypatch: Any) -> None:
    from napari.layers import Layer

    from stplm_napari import reader

    monkeypatch.setattr(reader, "_window", lambda: None)
    found = reader.read(str(demo_path / "experiment.xenium"))
    assert [kind for _, _, kind in found] == ["image", "labels", "labels", "labels"]
    layers = [Layer.create(*entry) for entry in found]
    assert {tuple(layer.scale) for layer in layers} == {(0.2125, 0.2125)}


@pytest.mark.gui
@pytest.mark.parametrize("how", ["folder", "sample"])
def test_opening_a_section_does_not_wait_for_it_and_then_shows_it(
    how: str, viewer: Any, demo_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stplm_napari.workspace import Workspace

    monkeypatch.setattr(Workspace, "_warm_up", lambda self: None)  # of no concern here, and it imports torch
    if how == "sample":
        viewer.open_sample("stplm-napari", "breast_tumour_section")
    else:
        viewer.open(demo_path, plugin="stplm-napari")
    assert len(viewer.layers) == 0, "it is read in the background"
    assert "Section (stplm-napari)" in viewer.window.dock_widgets
    qtbot.waitUntil(lambda: "Cells" in viewer.layers, timeout=60_000)
    assert "DAPI" in viewer.layers


def test_docks_and_reader_import_no_torch_and_nothing_slow() -> None:
    code = f"""
import sys
from npe2 import PluginManifest
manifest = PluginManifest.from_file({str(MANIFEST)!r})
import importlib
for command in manifest.contributions.commands:
    importlib.import_module(command.python_name.split(":")[0])
slow = {{"torch", "transformers", "spatialdata", "napari_spatialdata", "umap", "scanpy", "numba"}}
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
