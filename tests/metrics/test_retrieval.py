"""Retrieval scores against counting by hand."""

import pytest
import torch
from torch.nn import functional as F

from t2i_supcon.metrics import retrieval_recall


def test_perfect_and_hopeless_retrieval():
    x = F.normalize(torch.randn(20, 8), dim=1)
    assert retrieval_recall(x, 3 * x, pool=10, ranks=(1, 5)) == {"recall@1": 1.0, "recall@5": 1.0}
    assert retrieval_recall(x, -x, pool=10, ranks=(1,))["recall@1"] == 0.0


def test_equals_a_loop_over_captions():
    texts, images = torch.randn(25, 4), torch.randn(25, 4)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0)).tolist()
    hits = {1: 0, 3: 0}
    for pool in (order[:10], order[10:20]):
        for row in pool:
            ranking = sorted(pool, key=lambda other: -float(F.cosine_similarity(texts[row], images[other], dim=0)))
            for k in hits:
                hits[k] += row in ranking[:k]
    assert retrieval_recall(texts, images, pool=10, ranks=(1, 3)) == {
        f"recall@{k}": pytest.approx(n / 20) for k, n in hits.items()
    }


def test_random_embeddings_score_chance():
    torch.manual_seed(3)
    assert retrieval_recall(torch.randn(4000, 16), torch.randn(4000, 16))["recall@10"] == pytest.approx(0.1, abs=0.02)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="at least 100 rows; there are 7"):
        retrieval_recall(torch.randn(7, 2), torch.randn(7, 2))
