"""The HTML summary and the CSV tables."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exportable import CLASSES, make_section, make_table

import stplm
from stplm import keys
from stplm.errors import ExportError
from stplm.report.summary import summarise, write_summary
from stplm.report.tables import write_tables


class _Page(HTMLParser):
    """The words of a page and what it links to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.links, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def _page(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def test_says_what_there_is(tmp_path: Path, coarse: None) -> None:
    section = make_section()
    write_summary(section, tmp_path / "s.html", extra={"Held-out accuracy": "0.91 on 40 labels"})
    page = _page(tmp_path / "s.html")
    assert len(page.links) == 4
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    for said in ("Breast rep 1", "36 cells", "12 of 35 cells", "few-shot", "0.91 on 40 labels", "not a diagnosis"):
        assert said in page.text
    for name in CLASSES:
        assert name in page.text
    assert "2 genes are <not> known" in page.text  # shown as text, not taken for markup


def test_seeded_labels_are_said_plainly(tmp_path: Path, coarse: None) -> None:
    table = make_table()
    write_summary(table, tmp_path / "s.html")
    assert "No person labelled cells" in _page(tmp_path / "s.html").text
    table.uns[keys.UNS][keys.UNS_PREDICTION]["seeded"] = False
    write_summary(table, tmp_path / "s.html")
    assert "No person labelled cells" not in _page(tmp_path / "s.html").text


def test_cells_unlike_every_class_are_counted(tmp_path: Path, coarse: None) -> None:
    table = make_table()
    assert summarise(table)["unknown"] is None
    strange = np.full(table.n_obs, 0.3, np.float32)
    strange[[1, 2, 3]] = 0.99
    table.obs[keys.UNKNOWN] = strange
    write_summary(table, tmp_path / "s.html")
    assert f"unlike every class 3 of {table.obs[keys.CLASS].notna().sum()} cells" in _page(tmp_path / "s.html").text
    cells, _ = write_tables(table, tmp_path)
    assert pd.read_csv(cells)["unknown"].to_numpy() == pytest.approx(strange)


def test_without_positions_or_provenance(tmp_path: Path, coarse: None) -> None:
    table = make_table()
    del table.obsm[keys.SPATIAL]
    del table.uns[keys.UNS]
    write_summary(table, tmp_path / "s.html")
    page = _page(tmp_path / "s.html")
    assert len(page.links) == 1
    assert "no tissue to show" in page.text


def test_class_names_cannot_break_the_page(tmp_path: Path, coarse: None) -> None:
    table = make_table()
    evil = "<script>alert(1)</script>"
    table.obs[keys.CLASS] = table.obs[keys.CLASS].cat.rename_categories({"Tumour": evil})
    write_summary(table, tmp_path / "s.html")
    assert "<script>" not in (tmp_path / "s.html").read_text(encoding="utf-8")
    assert evil in _page(tmp_path / "s.html").text


def test_before_prediction(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Classify"):
        write_summary(make_table(predicted=False), tmp_path / "s.html")
    with pytest.raises(ExportError, match="Classify"):
        write_tables(make_table(predicted=False), tmp_path / "tables")
    with pytest.raises(ExportError, match="HTML"):
        write_summary(make_table(), tmp_path / "s.pdf")
    assert list(tmp_path.iterdir()) == []


def test_tables(tmp_path: Path) -> None:
    table = make_table()
    cells_path, classes_path = write_tables(table, tmp_path / "out" / "tables")
    cells = pd.read_csv(cells_path, keep_default_na=False)
    assert list(cells.columns) == [
        *("cell_id", "x_um", "y_um", "n_counts", "class", "confidence", "tumour_probability")
    ]
    assert cells["cell_id"].tolist() == list(table.obs_names)
    np.testing.assert_allclose(cells[["x_um", "y_um"]], table.obsm[keys.SPATIAL], atol=0.01)
    np.testing.assert_allclose(cells["confidence"], table.obs[keys.CONFIDENCE], atol=1e-5)
    assert cells["class"].iloc[-1] == keys.UNASSIGNED
    classes = pd.read_csv(classes_path)
    assert classes["class"].tolist() == [*CLASSES, keys.UNASSIGNED]
    assert classes["cells"].tolist() == [12, 12, 11, 1]
    assert classes["percent"].sum() == pytest.approx(100)


def test_demo_section(demo_path: Path, tmp_path: Path) -> None:
    section = stplm.read_section(demo_path)
    table = stplm.cell_table(section)
    table.obs[keys.CLASS] = pd.Categorical(np.where(table[:, "EPCAM"].X.toarray().ravel() > 2, "Tumour", "Other"))
    table.obs[keys.CONFIDENCE] = np.float32(0.8)
    table.obs[keys.TUMOUR] = (table.obs[keys.CLASS] == "Tumour").to_numpy(dtype=np.float32)
    write_summary(section, tmp_path / "s.html")
    page = _page(tmp_path / "s.html")
    assert f"{table.n_obs:,} cells" in page.text
    assert len(page.links) == 4
    assert (tmp_path / "s.html").stat().st_size < 8e6
