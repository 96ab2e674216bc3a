"""The vendor's panels, and which one a section was made with."""

from __future__ import annotations

import pandas as pd
import pytest

from stplm.errors import GeneError
from stplm.tokens.panels import guess_panel, list_panels, panel
from stplm.tokens.vocabulary import known_ensembl_ids


def test_every_panel_has_the_number_of_genes_it_says() -> None:
    panels = list_panels()
    assert {"hBreast", "hLung", "hColon", "hMulti", "hIO", "hPrime5K", "hSkin", "hBrain"} <= set(panels.index)
    for name, row in panels.iterrows():
        genes = panel(str(name))
        assert len(genes) == genes["ensembl_id"].nunique() == row["n_genes"]
        assert set(genes["ensembl_id"]) <= known_ensembl_ids()
        assert (genes["symbol"] != "").all()
    assert panels.loc[["hMulti", "hPrime5K"], "n_genes"].tolist() == [377, 5001]


def test_a_panel_is_recognised_with_dropouts_and_custom_genes() -> None:
    genes = panel("hLung")["ensembl_id"].tolist()
    other = panel("hBrain")["ensembl_id"].tolist()
    guess = guess_panel([*genes[:-30], *other[:40], "", ""])
    assert guess.name == "hLung"
    assert guess.shared >= len(genes) - 30
    assert 0.8 < guess.of_panel <= 1
    assert 0.8 < guess.of_genes < 1


def test_each_panel_is_taken_for_itself() -> None:
    for name in list_panels().index:
        guess = guess_panel(panel(str(name))["ensembl_id"])
        assert (guess.name, guess.of_panel, guess.of_genes) == (name, 1, 1)


def test_genes_of_no_panel_give_no_guess() -> None:
    assert guess_panel([]).name == ""
    assert guess_panel(["", "ENSG00000999999"]).shared == 0


def test_an_unknown_panel_is_named() -> None:
    with pytest.raises(GeneError, match=r"(?s)no panel 'hLiver'.*hLung"):
        panel("hLiver")


@pytest.mark.real
def test_panels_are_the_vendors_lists(shared_data) -> None:
    folder = shared_data / "xenium_panels"
    for name in set(list_panels().index) - {"hBreast313"}:
        given = pd.read_csv(folder / f"{name}.csv", dtype=str)
        ids = next(given[c] for c in given.columns if given[c].str.startswith("ENSG").all())
        own = panel(name).set_index("ensembl_id")["symbol"]
        assert own.to_dict() == dict(zip(ids, given["gene"], strict=True))
