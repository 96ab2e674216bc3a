"""What a figure of the tissue shows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from exportable import CLASSES, make_section, make_table
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stplm import keys
from stplm.errors import ExportError
from stplm.palette import UNASSIGNED_COLOUR, class_colours
from stplm.report.colouring import colour_cells
from stplm.report.tissue import TUMOUR_CALL, plot_tissue, section_name


def _picture(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def _texts(figure: Figure) -> list[str]:
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return inside + [text.get_text() for text in figure.texts]


def _at(picture: np.ndarray, x: float, y: float, width: float) -> str:
    scale = picture.shape[1] / width
    return "#" + "".join(f"{v:02X}" for v in picture[int(y * scale), int(x * scale)])


@pytest.mark.parametrize("kind", ["labels", "shapes"])
def test_cells_have_the_colours_of_their_classes(kind: str) -> None:
    section = make_section(labels=kind == "labels", image=False)
    table = section[keys.TABLE]
    figure = plot_tissue(section, region=(0, 0, 80, 80), dpi=100)
    picture = _picture(figure)
    colours = class_colours(CLASSES)
    for i, (x, y) in enumerate(table.obsm[keys.SPATIAL]):
        name = table.obs[keys.CLASS].iloc[i]
        assert _at(picture, x, y, 80) == (colours[name] if isinstance(name, str) else UNASSIGNED_COLOUR)
    assert _at(picture, 4, 4, 80) == "#FFFFFF"


def test_a_table_alone_gives_dots() -> None:
    picture = _picture(plot_tissue(make_table(), region=(0, 0, 80, 80), dpi=100))
    assert _at(picture, 10, 10, 80) == class_colours(CLASSES)["Tumour"]
    assert _at(picture, 1, 1, 80) == "#FFFFFF"


def test_legend_counts_every_cell() -> None:
    table = make_table()
    texts = _texts(plot_tissue(table, dpi=60))
    counts = table.obs[keys.CLASS].value_counts()
    for name in CLASSES:
        assert name in texts
        assert str(counts[name]) in texts
    assert keys.UNASSIGNED in texts
    assert "Breast rep 1" in texts
    assert sum(int(text) for text in texts if text.isdigit()) == table.n_obs


def test_no_text_lies_on_another() -> None:
    table = make_table(8)
    names = [f"Class number {i} with a long name" if i % 3 == 0 else f"Class {i}" for i in range(30)]
    table.obs["many"] = [names[i % 30] for i in range(table.n_obs)]
    for colour in ("many", keys.TUMOUR, TUMOUR_CALL):
        figure = plot_tissue(table, colour, dpi=100)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts if text.get_text()]
        boxes += [text.get_window_extent() for text in figure.texts]
        for i, box in enumerate(boxes):
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0
            assert box.y1 <= figure.bbox.y1
            for other in boxes[i + 1 :]:
                assert not (min(box.x1, other.x1) - max(box.x0, other.x0) > 1 and
                            min(box.y1, other.y1) - max(box.y0, other.y0) > 3)  # fmt: skip


def test_tumour_probability_has_a_colour_bar_and_even_lightness() -> None:
    table = make_table()
    figure = plot_tissue(table, keys.TUMOUR, dpi=60)
    assert figure.axes[-1].get_ylim() == (0.0, 1.0)
    assert any("12 of 35 cells" in text for text in _texts(figure))
    shown = colour_cells(table, keys.TUMOUR).rgb @ np.array([0.2126, 0.7152, 0.0722])
    assert shown[0] > shown[1] + 0.3  # 0.9 against 0.1
    np.testing.assert_allclose(colour_cells(table, keys.TUMOUR).rgb[-1], to_rgb(UNASSIGNED_COLOUR), atol=1e-6)


def test_tumour_call() -> None:
    entries = {name: count for name, _, count in colour_cells(make_table(), TUMOUR_CALL).entries}
    assert entries == {"Tumour": 12, "Not tumour": 23, keys.UNASSIGNED: 1}


def test_gene_and_any_column() -> None:
    table = make_table()
    shown = colour_cells(table, "ERBB2")
    counts = table[:, "ERBB2"].X.toarray().ravel()
    assert shown.limits == (0.0, float(np.percentile(counts, 99)))
    table.obs["cluster"] = [f"c{i % 2}" for i in range(table.n_obs)]
    assert [entry[0] for entry in colour_cells(table, "cluster").entries] == ["c0", "c1"]


def test_stain_shows_and_is_stretched() -> None:
    picture = _picture(plot_tissue(make_section(), opacity=0.0, outlines=False, dpi=100))
    assert picture[..., 0].std() > 40
    np.testing.assert_array_equal(picture[..., 0], picture[..., 1])
    assert picture.max() == 255


def test_own_colours() -> None:
    figure = plot_tissue(make_table(), colours={"Tumour": "#010203"}, region=(0, 0, 80, 80), dpi=100)
    assert _at(_picture(figure), 10, 10, 80) == "#010203"


def test_files(tmp_path: Path) -> None:
    table = make_table()
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        plot_tissue(table, path=tmp_path / f"a{ending}", dpi=60)
        plot_tissue(table, path=tmp_path / f"b{ending}", dpi=60)
        data = (tmp_path / f"a{ending}").read_bytes()
        assert data.startswith(start)
        assert data == (tmp_path / f"b{ending}").read_bytes()
    assert "Tumour" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    with pytest.raises(ExportError, match="picture"):
        plot_tissue(table, path=tmp_path / "a.bmp")


def test_scale_bar_is_as_long_as_it_says() -> None:
    figure = plot_tissue(make_section(), scale_bar_um=20, dpi=60)
    axes = figure.axes[0]
    assert list(axes.lines[0].get_xdata()) == [0, 20]
    assert axes.get_xlim() == (0, 80)
    assert "20 µm" in _texts(figure)


def test_no_pyplot_state() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plot_tissue(make_table(), dpi=60).savefig(io.BytesIO())
    assert plt.get_fignums() == before


def test_mistakes_say_what_to_do() -> None:
    table = make_table(predicted=False)
    for colour in (keys.CLASS, keys.TUMOUR, TUMOUR_CALL):
        with pytest.raises(ExportError, match="Classify"):
            plot_tissue(table, colour)
    with pytest.raises(ExportError, match="neither a column"):
        plot_tissue(table, "ERBB9")
    del table.obsm[keys.SPATIAL]
    with pytest.raises(ExportError, match="no positions"):
        plot_tissue(table, "ERBB2")
    assert section_name(table) == "Breast rep 1"
