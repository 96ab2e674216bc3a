"""Gene names to Ensembl ids, and token ids."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from stplm.errors import GeneError
from stplm.tokens.vocabulary import (
    ensembl_to_symbol,
    gene_ids,
    known_ensembl_ids,
    load_vocabulary,
    match_genes,
    symbol_to_ensembl,
)

EPCAM, CAVIN2, ERBB2 = "ENSG00000119888", "ENSG00000168497", "ENSG00000141736"


def table_of(names: list[str], **var: list[str]) -> ad.AnnData:
    return ad.AnnData(np.ones((2, len(names)), dtype=np.float32), var=pd.DataFrame(var, index=names))


@pytest.mark.parametrize(
    ("name", "gene"),
    [
        ("EPCAM", EPCAM),
        ("epcam", EPCAM),
        (" EPCAM ", EPCAM),
        ("ENSG00000119888", EPCAM),
        ("ENSG00000119888.11", EPCAM),
        ("ensg00000119888", EPCAM),
        ("GRCh38_EPCAM", EPCAM),
        ("GRCh38______EPCAM", EPCAM),
        ("SDPR", CAVIN2),
        ("CAVIN2", CAVIN2),
        ("HER2", ERBB2),
        ("CD20", "ENSG00000156738"),
        ("STING1", "ENSG00000184584"),
        ("TMEM173", "ENSG00000184584"),
        ("C1ORF162", "ENSG00000143110"),
        ("HLA.DRA", "ENSG00000204287"),
        ("BLANK_0001", ""),
        ("ENSG00000999999", ""),
        ("ENSMUSG00000045394", ""),
        ("", ""),
    ],
)
def test_a_gene_is_found_by_any_of_its_names(name: str, gene: str) -> None:
    assert match_genes([name])[0] == gene


def test_matching_keeps_shape_and_order() -> None:
    assert match_genes(["KRT5", "?", "EPCAM"]).tolist() == ["ENSG00000186081", "", EPCAM]
    assert match_genes([]).shape == (0,)


def test_symbols_and_ids_map_both_ways() -> None:
    ids, symbols = symbol_to_ensembl(), ensembl_to_symbol()
    assert ids["EPCAM"] == EPCAM
    assert all(symbols[gene] == symbol for symbol, gene in ids.items())
    assert known_ensembl_ids() == symbols.keys()


def test_what_a_caller_does_to_the_maps_stays_with_the_caller() -> None:
    symbol_to_ensembl().clear()
    assert symbol_to_ensembl()["EPCAM"] == EPCAM


def test_an_alias_never_hides_a_symbol_in_use() -> None:
    for symbol, gene in symbol_to_ensembl().items():
        assert match_genes([symbol])[0] == gene


def test_gene_ids_takes_the_given_ids_without_version_and_matches_the_blank_ones() -> None:
    table = table_of(["EPCAM", "KRT5", "x"], ensembl_id=[EPCAM + ".3", "", "ENSG00000999999"])
    assert gene_ids(table).tolist() == [EPCAM, "ENSG00000186081", "ENSG00000999999"]


def test_gene_ids_takes_missing_values_for_blank() -> None:
    table = table_of(["EPCAM", "KRT5"])
    table.var["ensembl_id"] = pd.Series([np.nan, "ENSG00000186081"], index=table.var_names).astype(object)
    assert gene_ids(table).tolist() == [EPCAM, "ENSG00000186081"]


def test_gene_ids_gives_an_id_to_one_gene_only_and_the_present_symbol_goes_first() -> None:
    assert gene_ids(table_of(["SDPR", "CAVIN2", "cavin2"])).tolist() == ["", CAVIN2, ""]


@pytest.mark.parametrize(
    ("table", "species"),
    [
        (table_of(["Epcam", "Krt5", "Cd3e", "1700001C02Rik"]), "mouse"),
        (table_of(["EPCAM", "KRT5"], ensembl_id=["ENSMUSG00000045394", "ENSMUSG00000061527"]), "mouse"),
        (table_of(["ENSRNOG00000015667", "ENSRNOG00000000010"]), "rat"),
        (table_of(["ENSDARG00000040534"]), "zebrafish"),
    ],
)
def test_another_species_is_refused_by_name(table: ad.AnnData, species: str) -> None:
    with pytest.raises(GeneError, match=f"look like {species} genes"):
        gene_ids(table)


def test_names_that_are_no_genes_are_refused() -> None:
    with pytest.raises(GeneError, match="4 genes such as a1, a2, a3"):
        gene_ids(table_of(["a1", "a2", "a3", "a4"]))
    with pytest.raises(GeneError, match="no genes at all"):
        gene_ids(table_of([]))


def test_lower_case_human_symbols_are_read() -> None:
    assert gene_ids(table_of(["epcam", "krt5"])).tolist() == [EPCAM, "ENSG00000186081"]


@pytest.mark.parametrize("name", ["stplm", "reference"])
def test_tokens_are_unique_and_decode_to_their_genes(name: str) -> None:
    words = load_vocabulary(name)
    used = [*words.ids.values(), *words.special.values()]
    assert len(set(used)) == len(used)
    assert words.size == max(used) + 1
    tokens = words.encode([EPCAM, "ENSG00000999999", CAVIN2])
    assert tokens[1] == -1
    assert words.decode(tokens[[0, 2]]) == [EPCAM, CAVIN2]
    assert words.decode([words.special["<pad>"]]) == ["<pad>"]
    with pytest.raises(GeneError, match="not in the vocabulary"):
        words.decode([40_000])


def test_token_ids_that_models_rest_on_stay_as_they_are() -> None:
    own, reference = load_vocabulary("stplm"), load_vocabulary("reference")
    assert dict(own.special) == {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3}
    assert [own.ids[g] for g in ("ENSG00000000005", EPCAM, "ENSG00000227191")] == [4, 1870, 25487]
    assert reference.ids["ENSG00000000003"] == 2
    assert reference.special["<cls>"] == 25441


def test_there_is_no_other_vocabulary() -> None:
    with pytest.raises(GeneError, match="no vocabulary 'mouse'"):
        load_vocabulary("mouse")


@pytest.mark.real
def test_all_genes_of_the_real_breast_section_are_known_by_id_and_by_symbol(shared_data) -> None:
    var = ad.read_h5ad(shared_data / "xenium_breast_17k" / "rep1_17136.h5ad", backed="r").var
    assert len(var) == 313
    assert set(var["ensembl_id"]) <= known_ensembl_ids()
    assert match_genes(var.index).tolist() == var["ensembl_id"].tolist()


@pytest.mark.real
def test_the_reference_dictionary_is_the_shipped_one(shared_data) -> None:
    dictionary = pd.read_csv(shared_data / "stplm_reference" / "token_dictionary.csv").set_index("ensembl_id")["token"]
    words = load_vocabulary("reference")
    assert {**words.ids, "<pad>": 0, "<mask>": 1} == dictionary.to_dict()
