"""Build the shipped gene vocabulary, panel list and median tables.

    python scripts/build_vocabulary.py DATA GENCODE_NEW.csv.gz GENCODE_OLD.csv.gz

DATA holds ``xenium_panels`` (the vendor's panel lists), ``stplm_reference`` (token dictionary, median figures) and the
breast sections. The two GENCODE tables (columns without a header: Ensembl id, gene name, ...; releases 48 and 38) give
the names of genes outside the panels, and names that changed. Only facts are kept: gene ids, gene names, which panel
has a gene, figures.

Row order of ``genes.csv`` is the token order and only ever grows: genes already there keep their row.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = ROOT / "resources" / "vocabulary"
PANELS = ROOT / "resources" / "panels"
MEDIANS = ROOT / "resources" / "medians"
BREAST_313 = "hBreast313"
"""The 280 genes of the breast panel and the 33 add-on genes of 10x Genomics' public breast cancer section."""


def read_panels(data: Path) -> tuple[pd.DataFrame, dict[str, dict[str, str]]]:
    """The panel list, and of each panel Ensembl id -> symbol."""
    manifest = pd.read_csv(data / "xenium_panels" / "manifest.csv")
    manifest = manifest[manifest["species"] == "Human"]
    genes: dict[str, dict[str, str]] = {}
    for name, file in zip(manifest["panel_id"], manifest["file"], strict=True):
        table = pd.read_csv(data / "xenium_panels" / file, dtype=str)
        ids = next(table[c] for c in table.columns if table[c].str.startswith("ENSG").all())
        genes[name] = dict(zip(ids, table["gene"], strict=True))
    section = ad.read_h5ad(data / "xenium_breast_17k" / "rep1_17136.h5ad", backed="r").var
    genes[BREAST_313] = dict(zip(section["ensembl_id"], section.index, strict=True))
    panels = manifest.rename(columns={"panel_id": "panel"})[["panel", "display_name", "tissue", "source_url"]]
    addon = {
        "panel": BREAST_313,
        "display_name": "Human Breast and 33 add-on genes",
        "tissue": "Breast",
        "source_url": "https://www.10xgenomics.com/products/xenium-in-situ/preview-dataset-human-breast",
    }
    panels = pd.concat([panels, pd.DataFrame([addon])], ignore_index=True)
    panels.insert(2, "n_genes", [len(genes[name]) for name in panels["panel"]])
    return panels.sort_values("panel"), genes


def read_gencode(path: Path) -> dict[str, str]:
    """Ensembl id without version -> gene name; genes without a name are left out."""
    table = pd.read_csv(path, header=None, usecols=[0, 1], dtype=str)
    names = dict(zip(table[0].str.split(".").str[0], table[1], strict=True))
    return {gene: name for gene, name in names.items() if isinstance(name, str) and not name.startswith("ENSG")}


def gene_table(data: Path, panels: dict[str, dict[str, str]], new: dict[str, str], old: dict[str, str]) -> pd.DataFrame:
    """Columns ensembl_id, symbol, aliases, panels, reference_token; one row a gene, in token order."""
    dictionary = pd.read_csv(data / "stplm_reference" / "token_dictionary.csv")
    dictionary = dictionary[dictionary["ensembl_id"].str.startswith("ENSG")]
    tokens = dict(zip(dictionary["ensembl_id"], dictionary["token"], strict=True))

    known = pd.read_csv(VOCABULARY / "genes.csv")["ensembl_id"].tolist() if (VOCABULARY / "genes.csv").exists() else []
    in_panels = sorted({gene for genes in panels.values() for gene in genes})
    order = list(dict.fromkeys([*known, *in_panels, *dictionary["ensembl_id"]]))

    vendor = {gene: symbol for genes in panels.values() for gene, symbol in genes.items()}
    rows = []
    for gene in order:
        names = [names[gene] for names in (vendor, new, old) if gene in names]
        symbol = names[0] if names else ""
        rows.append(
            {
                "ensembl_id": gene,
                "symbol": symbol,
                "aliases": ";".join(sorted(set(names) - {symbol})),
                "panels": ";".join(sorted(name for name, genes in panels.items() if gene in genes)),
                "reference_token": tokens.get(gene, -1),
            }
        )
    table = pd.DataFrame(rows)
    hand = pd.read_csv(VOCABULARY / "aliases.csv")
    if strangers := sorted(set(hand["symbol"]) - set(table["symbol"])):
        raise SystemExit(f"aliases.csv names unknown symbols: {strangers}")
    if shadows := sorted(set(hand["alias"].str.upper()) & set(table["symbol"].str.upper())):
        raise SystemExit(f"aliases.csv hides symbols in use: {shadows}")
    return table


def write_median_tables(data: Path) -> None:
    """STPLM's figures for lung and colon as they are; ours for breast, without cells that scores are made on."""
    from stplm.tokens.medians import compute_medians, write_medians

    reference = pd.read_csv(data / "stplm_reference" / "gene_medians.csv").set_index("ensembl_id")
    for tissue in ("lung", "colon"):
        reference[tissue].rename("median").to_csv(MEDIANS / f"{tissue}.csv", lineterminator="\n")
    section = ad.read_h5ad(data / "xenium_breast_34k" / "rep1_34451.h5ad")
    scored = section.obs["in_17k_region"].astype(bool) | section.obs["in_small_labelled_region"].astype(bool)
    write_medians(compute_medians([section[~scored.to_numpy()]]), MEDIANS / "breast.csv")
    print(f"breast medians from {int((~scored).sum())} cells")


def main(data: Path, new: Path, old: Path) -> None:
    VOCABULARY.mkdir(parents=True, exist_ok=True)
    PANELS.mkdir(parents=True, exist_ok=True)
    MEDIANS.mkdir(parents=True, exist_ok=True)
    panels, genes = read_panels(data)
    panels.to_csv(PANELS / "panels.csv", index=False, lineterminator="\n")
    table = gene_table(data, genes, read_gencode(new), read_gencode(old))
    table.to_csv(VOCABULARY / "genes.csv", index=False, lineterminator="\n")
    print(f"{len(table)} genes, {int(np.sum(table['panels'] != ''))} of them in {len(panels)} panels")
    write_median_tables(data)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
