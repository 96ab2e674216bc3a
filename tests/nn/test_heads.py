"""Heads on cell vectors: two outputs that agree, one cell at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stplm.nn.heads import ClassHeads, HeadsConfig, Scheme

CLASSES, TUMOUR = ("B", "DCIS", "Invasive", "T"), ("DCIS", "Invasive")


def make(scheme: Scheme = "hierarchical", genes: tuple[str, ...] = ("g1", "g2", "g3")) -> ClassHeads:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = ClassHeads(HeadsConfig(8, CLASSES, TUMOUR, scheme, genes, profiles=2 if genes else 0))
        for parameter in heads.parameters():
            torch.nn.init.normal_(parameter)
        if genes:
            torch.nn.init.normal_(heads.profile)
    return heads.eval()


def cells(n: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    counts = torch.poisson(torch.full((n, 3), 4.0), generator=generator)
    return torch.randn(n, 8, generator=generator), counts, counts.sum(1) + 30


@pytest.mark.parametrize("scheme", ["joint", "hierarchical"])
def test_probabilities_add_up_and_the_tumour_output_decides_first_where_it_is_asked_to(scheme: Scheme) -> None:
    heads = make(scheme)
    types, tumour = heads(*cells())
    proba = heads.log_proba(types, tumour).exp()
    torch.testing.assert_close(proba.sum(1), torch.ones(20))
    decided = torch.allclose(proba[:, heads.is_tumour].sum(1), torch.sigmoid(tumour), atol=1e-5)
    assert decided is (scheme == "hierarchical")


def test_without_a_tumour_class_the_schemes_are_one() -> None:
    heads = ClassHeads(HeadsConfig(8, ("B", "T"), (), "hierarchical")).eval()
    vectors, counts, depth = cells()
    types, tumour = heads(vectors, counts[:, :0], depth)
    torch.testing.assert_close(heads.log_proba(types, tumour), torch.log_softmax(types, 1))


def test_a_cell_does_not_depend_on_the_others_and_an_empty_one_is_a_guess() -> None:
    heads, (vectors, counts, depth) = make(), cells()
    together = heads.log_proba(*heads(vectors, counts, depth))
    alone = heads.log_proba(*heads(vectors[3:4], counts[3:4], depth[3:4]))
    torch.testing.assert_close(together[3:4], alone)
    empty = heads.log_proba(*heads(vectors[:1], torch.zeros(1, 3), torch.zeros(1))).exp()
    torch.testing.assert_close(empty, torch.full((1, 4), 0.25))


def test_a_gene_that_the_panel_lacks_counts_as_an_average_one() -> None:
    heads, (vectors, counts, depth) = make(), cells()
    with torch.no_grad():
        heads.profile[1] = 0
        heads.level_mean.fill_(1.3)
    lacking = counts.clone()
    lacking[:, 1] = torch.nan
    average = counts.clone()
    average[:, 1] = torch.expm1(torch.tensor(1.3)) * depth / 100
    for a, b in zip(heads(vectors, lacking, depth), heads(vectors, average, depth), strict=True):
        torch.testing.assert_close(a, b)


def test_a_config_that_contradicts_itself_is_refused() -> None:
    for wrong in ({"tumour_classes": ("X",)}, {"scheme": "both"}, {"temperature": 0.0}, {"log_shift": (0.0,)}):
        with pytest.raises(ValueError):
            HeadsConfig(8, CLASSES, **wrong)  # type: ignore[arg-type]
