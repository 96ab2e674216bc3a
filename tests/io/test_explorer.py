"""Xenium Explorer cell groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from exportable import CLASSES, make_table

from stplm import keys
from stplm.errors import ExportError
from stplm.io.explorer import read_explorer_groups, write_explorer_groups
from stplm.palette import UNASSIGNED_COLOUR, class_colours


def test_reads_back_equal(tmp_path: Path) -> None:
    table = make_table()
    write_explorer_groups(table, tmp_path / "groups.csv")
    assert (tmp_path / "groups.csv").read_text(encoding="utf-8").splitlines()[0] == "cell_id,group,color"
    frame = read_explorer_groups(tmp_path / "groups.csv")
    assert list(frame.index) == list(table.obs[keys.CELL_ID])
    want = table.obs[keys.CLASS].astype(object).fillna("Unassigned")
    assert frame["group"].tolist() == want.tolist()
    colours = class_colours(CLASSES) | {"Unassigned": UNASSIGNED_COLOUR}
    assert frame["color"].tolist() == [colours[name] for name in want]


def test_own_colours_win_and_others_stay(tmp_path: Path) -> None:
    table = make_table()
    write_explorer_groups(table, tmp_path / "g.csv", colours={"Tumour": "#010203", "Not in the table": "#000000"})
    frame = read_explorer_groups(tmp_path / "g.csv")
    assert set(frame.loc[frame["group"] == "Tumour", "color"]) == {"#010203"}
    assert set(frame.loc[frame["group"] == CLASSES[1], "color"]) == {class_colours(CLASSES)[CLASSES[1]]}
    with pytest.raises(ExportError, match="malformed"):
        write_explorer_groups(table, tmp_path / "g.csv", colours={"Tumour": "red"})


def test_any_column_of_groups(tmp_path: Path) -> None:
    table = make_table()
    table.obs["cluster"] = [i % 3 for i in range(table.n_obs)]
    write_explorer_groups(table, tmp_path / "g.csv", "cluster")
    assert read_explorer_groups(tmp_path / "g.csv")["group"].tolist() == [str(i % 3) for i in range(table.n_obs)]
    with pytest.raises(ExportError, match="measurements"):
        write_explorer_groups(table, tmp_path / "g.csv", keys.CONFIDENCE)
    with pytest.raises(ExportError, match="no column 'nope'"):
        write_explorer_groups(table, tmp_path / "g.csv", "nope")


def test_class_named_like_a_missing_value_stays_a_name(tmp_path: Path) -> None:
    table = make_table()
    table.obs[keys.CLASS] = table.obs[keys.CLASS].cat.rename_categories(["NA", "None", "nan"])
    write_explorer_groups(table, tmp_path / "g.csv")
    assert set(read_explorer_groups(tmp_path / "g.csv")["group"]) == {"NA", "None", "nan", "Unassigned"}


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("cell_id,group\n1,T cell\n2,B cell\n")
    frame = read_explorer_groups(path)
    assert frame.index.tolist() == ["1", "2"]
    assert frame["color"].tolist() == ["", ""]
    path.write_text("barcode,cluster\n1,T cell\n")
    with pytest.raises(ExportError, match="not a cell groups file"):
        read_explorer_groups(path)
    path.write_text("cell_id,group\n1,T cell\n1,B cell\n")
    with pytest.raises(ExportError, match="twice"):
        read_explorer_groups(path)
    with pytest.raises(ExportError, match="cannot be read"):
        read_explorer_groups(tmp_path / "none.csv")
