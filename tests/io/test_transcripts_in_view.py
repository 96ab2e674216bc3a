"""Transcripts of a few genes in a window, from the row groups that may lie in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stplm.errors import SectionError
from stplm.io.transcripts import transcripts_file, transcripts_in_view

N = 4000


def write(path: Path, *, statistics: bool = True, binary: bool = False, qv: bool = True) -> dict[str, np.ndarray]:
    """N transcripts sorted by x, in 10 row groups."""
    rng = np.random.default_rng(0)
    parts = {
        "feature_name": rng.choice(["ERBB2", "LUM", "CD3E"], N),
        "x_location": np.sort(rng.uniform(0, 1000, N)).astype(np.float32),
        "y_location": rng.uniform(0, 100, N).astype(np.float32),
        "qv": rng.uniform(5, 40, N).astype(np.float32),
    }
    if not qv:
        del parts["qv"]
    table = pa.table(parts)
    if binary:
        table = table.set_column(0, "feature_name", table["feature_name"].cast(pa.binary()))
    pq.write_table(table, path, row_group_size=N // 10, write_statistics=statistics)
    return parts


@pytest.mark.parametrize("kind", [{}, {"statistics": False}, {"binary": True}])
def test_what_lies_in_the_window_is_found_and_no_more_is_read(tmp_path: Path, kind: dict[str, bool]) -> None:
    all_ = write(tmp_path / "t.parquet", **kind)
    found = transcripts_in_view(tmp_path / "t.parquet", ["LUM", "ERBB2"], (200, 10, 300, 60))
    x, y = all_["x_location"], all_["y_location"]
    inside = (x >= 200) & (x <= 300) & (y >= 10) & (y <= 60) & (all_["qv"] >= 20)
    for place, gene in enumerate(("LUM", "ERBB2")):
        mine = inside & (all_["feature_name"] == gene)
        assert np.array_equal(found.xy_um[found.gene == place], np.c_[x, y][mine])
    assert found.n_found == (inside & (all_["feature_name"] != "CD3E")).sum()
    assert found.groups_read == (10 if kind.get("statistics") is False else 1)


def test_quality_may_be_lowered_and_may_be_missing(tmp_path: Path) -> None:
    all_ = write(tmp_path / "t.parquet")
    everywhere = (0, 0, 1000, 100)
    lum = all_["feature_name"] == "LUM"
    assert transcripts_in_view(tmp_path / "t.parquet", ["LUM"], everywhere, min_qv=0).n_found == lum.sum()
    write(tmp_path / "q.parquet", qv=False)
    assert transcripts_in_view(tmp_path / "q.parquet", ["LUM"], everywhere).n_found == lum.sum()


def test_too_many_are_thinned_evenly(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet")
    found = transcripts_in_view(tmp_path / "t.parquet", ["LUM"], (0, 0, 1000, 100), min_qv=0, most=300)
    assert len(found.xy_um) == 300 < found.n_found
    assert np.ptp(found.xy_um[:, 0]) > 950


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "transcripts.parquet").write_bytes(b"PAR1 and no more")
    assert transcripts_file(tmp_path) == tmp_path / "transcripts.parquet"
    with pytest.raises(SectionError, match="truncated or damaged"):
        transcripts_in_view(tmp_path / "transcripts.parquet", ["LUM"], (0, 0, 1, 1))
    pq.write_table(pa.table({"gene": ["A"]}), tmp_path / "transcripts.parquet")
    with pytest.raises(SectionError, match="lacks the columns feature_name"):
        transcripts_in_view(tmp_path / "transcripts.parquet", ["LUM"], (0, 0, 1, 1))
    assert transcripts_file(tmp_path / "nowhere") is None
