"""The bundle writer: what it writes, spatialdata-io and scanpy read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import shapely
import tifffile

from stplm.errors import ExportError, SectionError
from stplm.io.bundle import write_bundle
from stplm.io.bundle_image import CHANNELS, write_morphology
from stplm.io.bundle_outlines import trace_outlines
from stplm.io.cell_ids import decode_cell_ids, encode_cell_ids


def parts() -> dict[str, Any]:
    """Three cells of two genes and a control; the second cell has two nuclei, the third none."""
    labels = np.zeros((60, 80), dtype=np.uint32)
    labels[5:25, 5:25], labels[5:25, 30:60], labels[35:55, 10:40] = 1, 2, 3
    nuclei = np.zeros_like(labels)
    nuclei[10:18, 10:18], nuclei[10:18, 33:41], nuclei[10:18, 46:56] = 1, 2, 3
    return {
        "counts": sp.csr_matrix(np.array([[3, 0, 1], [0, 5, 0], [0, 0, 0]], dtype=np.int32)),
        "features": pd.DataFrame(
            {
                "id": ["ENSG00000141736", "ENSG00000121270", "NegControlProbe_1"],
                "name": ["ERBB2", "ABCC11", "NegControlProbe_1"],
                "feature_type": ["Gene Expression", "Gene Expression", "Negative Control Probe"],
            }
        ),
        "cells": pd.DataFrame(
            {
                "cell_id": encode_cell_ids([7, 44769, 2**32 - 1]),
                "x_centroid": [7.5, 22.5, 12.5],
                "y_centroid": [7.5, 7.5, 22.5],
                "note": ["a", "b", "c"],
            }
        ),
        "cell_labels": labels,
        "nucleus_labels": nuclei,
        "nucleus_cell": [0, 1, 1],
        "pixel_size": 0.5,
    }


def test_ids_follow_the_published_mapping() -> None:
    assert encode_cell_ids([0, 0x258C6]).tolist() == ["aaaaaaaa-1", "aaacfimg-1"]
    assert decode_cell_ids(["aaaaaaaa-3", "pppppppp-12"]).tolist() == [[0, 3], [2**32 - 1, 12]]
    with pytest.raises(SectionError, match="format"):
        decode_cell_ids(["aaaaaaaa-1", "cell_2"])


def test_every_element_reads_back(tmp_path: Path) -> None:
    from spatialdata_io import xenium

    content = parts()
    image = np.arange(60 * 80, dtype=np.uint16).reshape(1, 60, 80)
    spots = pd.DataFrame(
        {
            "cell_id": [*content["cells"]["cell_id"][:2], "UNASSIGNED"],
            "overlaps_nucleus": [1, 0, 0],
            "feature_name": ["ERBB2", "ABCC11", "NegControlProbe_1"],
            "x_location": [7.0, 20.0, 1.0],
            "y_location": [7.0, 8.0, 1.0],
            "z_location": [10.0, 10.0, 10.0],
            "qv": [40.0, 30.0, 25.0],
        }
    )
    section = xenium(write_bundle(tmp_path / "outs", image=image, transcripts=spots, **content), gex_only=False)
    table = section.tables["table"]
    assert table.obs["cell_id"].tolist() == content["cells"]["cell_id"].tolist()
    assert (table.X.toarray() == content["counts"].toarray()).all()
    assert table.var["gene_ids"]["ERBB2"] == "ENSG00000141736"
    assert table.obs["transcript_counts"].tolist() == [3, 5, 0]
    assert table.obs["control_probe_counts"].tolist() == [1, 0, 0]
    assert table.obs["nucleus_count"].tolist() == [1, 2, 0]
    assert table.obs["cell_area"].tolist() == [100.0, 150.0, 150.0]
    assert table.obs["note"].tolist() == ["a", "b", "c"]
    assert (np.asarray(section.labels["cell_labels"]["scale0"].image) == content["cell_labels"]).all()
    assert (np.asarray(section.labels["nucleus_labels"]["scale0"].image) == content["nucleus_labels"]).all()
    assert (np.asarray(section.images["morphology_focus"]["scale0"].image) == image).all()
    outlines = section.shapes["cell_boundaries"]
    assert outlines.geometry.area.tolist() == pytest.approx([100, 150, 150])
    assert outlines.geometry.iloc[1].bounds == (15.0, 2.5, 30.0, 12.5)
    assert section.shapes["nucleus_boundaries"]["cell_id"].tolist() == [outlines.index[i] for i in (0, 1, 1)]
    assert len(section.points["transcripts"]) == 3


def test_without_image_and_labels_the_files_are_left_out(tmp_path: Path) -> None:
    from spatialdata_io import xenium

    content = {k: v for k, v in parts().items() if "label" not in k and k != "nucleus_cell"}
    content["cells"] = content["cells"].assign(cell_area=[100.0, 150.0, 150.0])
    folder = write_bundle(tmp_path / "outs", **content)
    assert not (folder / "morphology_focus").exists()
    assert not (folder / "cell_boundaries.parquet").exists()
    off = dict.fromkeys(("cells_boundaries", "nucleus_boundaries", "cells_labels", "nucleus_labels"), False)
    table = xenium(folder, transcripts=False, morphology_focus=False, **off).tables["table"]
    assert table.shape == (3, 2)


def test_four_channels_are_one_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 60_000, (4, 300, 520)).astype(np.uint16)
    names = write_morphology(tmp_path / "morphology_focus", image, 0.2125)
    with tifffile.TiffFile(tmp_path / "morphology_focus" / names[0]) as file:
        assert (file.series[0].asarray() == image).all()
        assert all(name in file.ome_metadata for name in CHANNELS)
        assert 'PhysicalSizeX="0.2125"' in file.ome_metadata
        levels = [file.pages[0], *file.pages[0].pages]
        assert [page.shape for page in levels] == [(300, 520), (150, 260), (75, 130)]
        assert all(page.is_tiled for page in levels)
    with pytest.raises(ExportError, match="four"):
        write_morphology(tmp_path, image[:2], 0.2125)


def test_outlines_are_short_valid_and_true_to_size() -> None:
    rows, columns = np.indices((200, 200))
    labels = np.zeros((200, 200), dtype=np.uint32)
    labels[(rows - 50) ** 2 + (columns - 50) ** 2 < 40**2] = 1
    ring = (rows - 150) ** 2 / 4 + (columns - 120) ** 2
    labels[(ring < 35**2 / 4) & (rows > 120)] = 3
    labels[0, 199] = 5
    labels[199, 190:] = 5
    traced = trace_outlines(labels, 0.5)
    assert traced.labels.tolist() == [1, 3, 5]
    polygons = [shapely.Polygon(traced.xy[a:b]) for a, b in zip(traced.offsets, traced.offsets[1:], strict=False)]
    assert all(p.is_valid for p in polygons)
    assert np.diff(traced.offsets).max() <= 25
    for value, polygon in zip((1, 3), polygons, strict=False):
        assert polygon.area == pytest.approx((labels == value).sum() * 0.25, rel=0.03)
    assert polygons[2].bounds == (95.0, 99.5, 100.0, 100.0), "of two parts the larger one"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    folders = [write_bundle(tmp_path / name, image=np.ones((1, 60, 80), np.uint16), **parts()) for name in "ab"]
    files = sorted(p.relative_to(folders[0]) for p in folders[0].rglob("*") if p.is_file())
    assert len(files) == 8
    assert [(folders[0] / f).read_bytes() for f in files] == [(folders[1] / f).read_bytes() for f in files]


def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    content = parts()
    with pytest.raises(ExportError, match="count matrix"):
        write_bundle(tmp_path / "outs", **(content | {"cells": content["cells"].iloc[:2]}))
    with pytest.raises(ExportError, match="integers"):
        write_bundle(tmp_path / "outs", **(content | {"counts": content["counts"].astype(float)}))
    twice = content["cells"].assign(cell_id=content["cells"]["cell_id"].iloc[0])
    with pytest.raises(ExportError, match="twice"):
        write_bundle(tmp_path / "outs", **(content | {"cells": twice}))
    with pytest.raises(ExportError, match="four"):
        write_bundle(tmp_path / "outs", image=np.zeros((3, 60, 80), np.uint16), **content)
    assert list(tmp_path.iterdir()) == []


def test_only_a_bundle_is_ever_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter.txt").write_text("draft")
    with pytest.raises(ExportError, match="not empty"):
        write_bundle(precious, overwrite=True, **parts())
    assert (precious / "chapter.txt").read_text() == "draft"
    folder = write_bundle(tmp_path / "outs", **parts())
    with pytest.raises(ExportError, match="not empty"):
        write_bundle(folder, **parts())
    write_bundle(folder, overwrite=True, experiment={"run_name": "second"}, **parts())
    assert json.loads((folder / "experiment.xenium").read_text(encoding="utf-8"))["run_name"] == "second"
