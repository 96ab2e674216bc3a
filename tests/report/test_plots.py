"""What the figures of the map and of groups show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exportable import CLASSES, make_table
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stplm import keys
from stplm.cli import main
from stplm.errors import ExportError, GeneError
from stplm.palette import class_colours
from stplm.report.cell_map import plot_map
from stplm.report.heatmap import group_means, marker_genes, plot_heatmap


@pytest.fixture
def table():  # type: ignore[no-untyped-def]
    made = make_table()
    rng = np.random.default_rng(0)
    made.obsm[keys.UMAP] = rng.normal(size=(made.n_obs, 2)).astype(np.float32)
    made.obsm[keys.X_STPLM] = rng.normal(size=(made.n_obs, 8)).astype(np.float32)
    return made


def test_a_cell_on_the_map_has_the_colour_that_it_has_on_the_tissue(table) -> None:  # type: ignore[no-untyped-def]
    figure = plot_map(table, dpi=100, dot=6.0)
    figure.canvas.draw()
    axes = figure.axes[0]
    picture = np.asarray(figure.canvas.buffer_rgba())
    for row in np.flatnonzero((table.obs[keys.CLASS] == "Tumour").to_numpy()):
        x, y = axes.transData.transform(table.obsm[keys.UMAP][row])
        others = axes.transData.transform(np.delete(table.obsm[keys.UMAP], row, axis=0))
        if np.abs(others - (x, y)).max(axis=1).min() > 9:  # nothing lies over it
            shown = picture[picture.shape[0] - 1 - int(y), int(x), :3] / 255
            assert np.allclose(shown, to_rgb(class_colours(CLASSES)["Tumour"]), atol=0.02)
            break
    else:
        pytest.fail("every tumour cell is covered")


def test_dots_are_one_picture_in_a_vector_file(table, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plot_map(table, path=tmp_path / "map.svg")
    text = (tmp_path / "map.svg").read_text()
    assert text.count("<image") >= 1
    assert text.count("<use") < table.n_obs
    assert ">Tumour<" in text
    with pytest.raises(ExportError, match="no map"):
        plot_map(make_table())


def test_means_are_those_of_each_group(table) -> None:  # type: ignore[no-untyped-def]
    means, colours = group_means(table, keys.CLASS)
    assert set(means.groups) == set(colours) == set(table.obs[keys.CLASS].dropna())
    totals = np.asarray(table.X.sum(axis=1)).ravel()
    dense = np.asarray(table.X.todense(), float)
    logs = np.log1p(dense / np.maximum(totals, 1)[:, None] * np.median(totals[totals > 0]))
    for i, name in enumerate(means.groups):
        mine = (table.obs[keys.CLASS] == name).to_numpy()
        assert np.allclose(means.means[i], logs[mine].mean(axis=0))
        assert means.counts[i] == mine.sum()
    vectors, _ = group_means(table, keys.CLASS, "vectors")
    assert vectors.means.shape == (len(means.groups), 8)


def test_a_gene_of_one_group_alone_is_its_marker(table) -> None:  # type: ignore[no-untyped-def]
    name = group_means(table, keys.CLASS)[0].groups[0]
    dense = np.asarray(table.X.todense())
    dense[:, 2] = np.where(table.obs[keys.CLASS] == name, 50, 0)
    table.X = type(table.X)(dense)
    means, _ = group_means(table, keys.CLASS)
    assert marker_genes(means, 1)[0] == 2


def test_a_heatmap_names_groups_and_genes(table, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    genes = list(map(str, table.var_names[:3]))
    figure = plot_heatmap(table, path=tmp_path / "heat.pdf", genes=genes)
    assert (tmp_path / "heat.pdf").stat().st_size > 1000
    assert set(_ticks(figure, "x")) == set(genes)
    assert {words.split("  ")[0] for words in _ticks(figure, "y")} == set(table.obs[keys.CLASS].dropna())
    plot_heatmap(table, of="vectors")
    with pytest.raises(GeneError, match="panel"):
        plot_heatmap(table, genes=["NOSUCH"])
    table.obs["one"] = "same"
    with pytest.raises(ExportError, match="compares groups"):
        plot_heatmap(table, "one")


def test_one_command_draws_each_kind(table, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    table.write_h5ad(tmp_path / "cells.h5ad")
    for kind, ending in (("umap", "png"), ("heatmap", "svg"), ("tissue", "pdf")):
        out = tmp_path / f"{kind}.{ending}"
        assert main(["plot", str(tmp_path / "cells.h5ad"), "--kind", kind, "--out", str(out), "--dpi", "60"]) == 0
        assert out.stat().st_size > 1000
    assert main(["plot", str(tmp_path / "cells.h5ad"), "--out", str(tmp_path / "map.gif")]) == 1


def _ticks(figure: Figure, axis: str) -> list[str]:
    return [label.get_text() for label in getattr(figure.axes[0], f"get_{axis}ticklabels")()]
