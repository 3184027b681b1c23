"""Retrieval scores against counting by hand and recordings."""

import numpy as np
import pytest
import torch
from golden.weights import Golden
from torch.nn import functional as F

from t2i_supcon.metrics import label_precision, r_precision, retrieval_recall, wrong_sentences


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


@pytest.mark.parametrize("rows", [7, 100])
def test_embeddings_that_are_all_alike_or_nan_find_nothing(rows):
    x = torch.randn(1, 33).expand(rows, 33)
    for images in (x, torch.zeros(rows, 33), torch.full((rows, 33), torch.nan)):
        found = retrieval_recall(x, images)
        assert (found["recall@1"], found["recall@10"]) == (0, 0)


def test_an_image_that_stands_twice_is_found_by_neither_caption():
    x = torch.eye(10)
    x[1] = x[0]
    assert retrieval_recall(x, x, pool=10, ranks=(1, 2)) == {"recall@1": 0.8, "recall@2": 1.0}


def test_a_smaller_pool_is_said():
    x = torch.eye(7)
    assert retrieval_recall(x, x) == {"recall@1": 1, "recall@10": 1, "pool": 7}
    assert retrieval_recall(x, -x) == {"recall@1": 0, "recall@10": 0, "pool": 7}


def test_chance_of_a_small_pool_is_the_share_of_places_that_count():
    found = [retrieval_recall(torch.randn(2, 64), torch.randn(2, 64))["recall@10"] for _ in range(400)]
    assert sum(found) / 400 == pytest.approx(1 / 2, abs=0.1)  # min(10, 2 - 1) / 2


def test_one_row_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match="1 rows in pools of 100; retrieval needs at least 2"):
        retrieval_recall(torch.randn(1, 2), torch.randn(1, 2))
    with pytest.raises(ValueError, match=r"sent_emb have shape \(3, 2\) and image_emb \(4, 2\)"):
        retrieval_recall(torch.randn(3, 2), torch.randn(4, 2))


class TestRPrecision:
    @pytest.mark.parametrize("case", ["n40_d16", "n200_d64"])
    def test_equals_the_recorded_one(self, case):
        golden = Golden("metrics_retrieval")
        images, sentences, wrong = (golden.inputs[f"{case}.{name}"] for name in ("image_emb", "sent_emb", "wrong"))
        assert r_precision(images, sentences, wrong) == golden.outputs[f"{case}.r_precision"].item()
        assert r_precision(images.numpy(), sentences.numpy(), wrong.numpy()) == pytest.approx(
            golden.outputs[f"{case}.hits"].mean().item()
        )

    def test_ties_and_nan_are_misses(self):
        wrong = np.array([[1, 2], [0, 2], [0, 1]])
        assert r_precision(torch.eye(3), torch.eye(3), wrong) == 1
        assert r_precision(torch.ones(3, 2), torch.ones(3, 2), wrong) == 0
        assert r_precision(torch.full((3, 2), torch.nan), torch.ones(3, 2), wrong) == 0

    def test_candidates_that_do_not_exist_are_refused(self):
        x = torch.eye(3)
        with pytest.raises(ValueError, match="wrong names rows 0 to 3; there are rows 0 to 2"):
            r_precision(x, x, np.array([[0], [1], [3]]))
        with pytest.raises(ValueError, match=r"wrong has shape \(2, 1\); expected \(3, K\)"):
            r_precision(x, x, np.array([[0], [1]]))
        with pytest.raises(ValueError, match="wrong holds float64; expected whole numbers"):
            r_precision(x, x, np.array([[1.0], [2.0], [0.0]]))

    def test_candidates_are_of_other_classes(self):
        labels = torch.arange(30) % 3
        wrong = wrong_sentences(labels, candidates=200)
        assert wrong.shape == (30, 200) and (labels[wrong] != labels[:, None]).all()
        assert set(wrong[0]) == set(np.flatnonzero(labels != 0))  # all of them come up in 200 draws from 20
        assert (wrong_sentences(labels, 200) == wrong).all() and (wrong_sentences(labels, 200, seed=1) != wrong).any()

    def test_candidates_of_several_labels_share_none(self):
        labels = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
        wrong = wrong_sentences(labels, candidates=40)
        assert [set(row) for row in wrong.tolist()] == [{2, 3}, {2, 3}, {0, 1, 3}, {0, 1, 2}]
        with pytest.raises(ValueError, match="row 0 shares a label with all 2 rows"):
            wrong_sentences(np.array([4, 4]))

    def test_chance_is_one_in_all_candidates(self):
        images, sentences = torch.randn(2000, 8), torch.randn(2000, 8)
        assert r_precision(images, sentences, wrong_sentences(torch.arange(2000), 9)) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("own", [False, True])
def test_label_precision_equals_a_loop_over_queries(own):
    random = np.random.default_rng(4)
    queries, gallery = random.normal(size=(30, 5)), random.normal(size=(30, 5))
    labels, others = random.integers(0, 4, 30), random.integers(0, 4, 30)
    shares = []
    for i, query in enumerate(queries):
        rows = [j for j in range(30) if not (own and j == i)]
        cosines = {j: gallery[j] @ query / np.linalg.norm(gallery[j]) / np.linalg.norm(query) for j in rows}
        nearest = sorted(rows, key=cosines.get, reverse=True)[:3]
        shares.append(sum(others[j] == labels[i] for j in nearest) / 3)
    assert label_precision(queries, torch.tensor(gallery), labels, others, 3, own) == pytest.approx(np.mean(shares))


def test_labels_far_apart_are_found_and_collapsed_or_nan_embeddings_find_nothing():
    labels = np.repeat(np.arange(5), 4)
    apart = np.eye(5)[labels]
    assert label_precision(apart, apart, labels, labels, 3, own=True) == 1
    for nothing in (np.ones((20, 5)), np.full((20, 5), np.nan), np.zeros((20, 5))):
        assert label_precision(nothing, nothing, labels, labels, 3, own=True) == 0


def test_random_embeddings_find_labels_by_chance():
    random, labels = np.random.default_rng(0), np.arange(2000) % 5
    found = label_precision(random.normal(size=(2000, 8)), random.normal(size=(2000, 8)), labels, labels, 10)
    assert found == pytest.approx(0.2, abs=0.01)


def test_label_precision_of_what_does_not_fit_is_refused():
    x, labels = np.eye(4), np.arange(4)
    with pytest.raises(ValueError, match="neighbours is 4; it must be from 1 to the 3 rows"):
        label_precision(x, x, labels, labels, 4, own=True)
    with pytest.raises(ValueError, match="4 queries cannot each own one of 3 rows"):
        label_precision(x, x[:3], labels, labels[:3], own=True)
    with pytest.raises(ValueError, match=r"queries have shape \(4, 4\) and the gallery \(4, 3\)"):
        label_precision(x, x[:, :3], labels, labels)
