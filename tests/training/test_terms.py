"""The terms of the method, written out by hand for two views."""

import torch
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.losses import sentence_matching_loss, word_matching_loss
from t2i_supcon.models import ImageEmbeddings, TextEmbeddings
from t2i_supcon.training.recipe import parse_recipe
from t2i_supcon.training.terms import matching_terms, supcon_terms


def recipe(**changes):
    values = {
        "phase": "encoders",
        "batch_size": 6,
        "loss_weights": {"words": 1, "sent": 1, "supcon": 1},
        "scl_temperature": 0.3,
    }
    return parse_recipe(values | changes)


def embeddings(n=6):
    mask = torch.ones(n, 4, dtype=torch.long)
    mask[1, 2:] = 0
    return ImageEmbeddings(torch.randn(n, 5), torch.randn(n, 5, 2, 2)), TextEmbeddings(
        torch.randn(n, 5), torch.randn(n, 4, 5), mask
    )


def test_supcon_acts_on_the_quadruple_of_both_views():
    images, text = embeddings()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])  # three pairs, view-major
    loss = supcon_terms(recipe(), images.image_emb, text.sent_emb, labels)[0]["supcon"]
    anchors = [
        (F.normalize(z, dim=0), int(label))
        for part in (images.image_emb, text.sent_emb)
        for z, label in zip(part, labels)
    ]
    total = 0.0
    for i, (z, label) in enumerate(anchors):
        others = [a for j, a in enumerate(anchors) if j != i]
        positives = [p for p, other in others if other == label]
        assert len(positives) == 3  # own text or image, and both of the partner
        denominator = sum(torch.exp(z @ n / 0.3) for n, _ in others)
        total -= sum(torch.log(torch.exp(z @ p / 0.3) / denominator) for p in positives) / 3
    assert_close(loss, total / len(anchors))


def test_matching_losses_see_one_view_at_a_time():
    images, text = embeddings()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    terms = matching_terms(recipe(gamma1=4, gamma2=5, gamma3=10), images, text, labels, num_views=2)
    words, sent = 0.0, 0.0
    for rows in (slice(0, 3), slice(3, 6)):
        view = images.region_feats[rows], text.word_embs[rows], text.attention_mask[rows], labels[rows]
        words += sum(word_matching_loss(*view, gamma1=4, gamma2=5, gamma3=10)[:2]) / 2
        sent += sum(sentence_matching_loss(images.image_emb[rows], text.sent_emb[rows], labels[rows], gamma3=10)) / 2
    assert_close(terms["words"], words)
    assert_close(terms["sent"], sent)


def test_same_label_mask_is_a_switch():
    images, text = embeddings()
    labels = torch.zeros(6, dtype=torch.long)
    assert matching_terms(recipe(), images, text, labels, 1)["sent"] == 0
    assert matching_terms(recipe(mask_same_label=False), images, text, labels, 1)["sent"] > 0


def test_a_term_without_weight_is_not_computed():
    images, text = embeddings()
    without = recipe(loss_weights={"sent": 1})
    assert supcon_terms(without, None, None, None) == ({}, {})  # not even its inputs are touched
    assert matching_terms(without, ImageEmbeddings(image_emb=images.image_emb), text, torch.arange(6), 2).keys() == {
        "sent"
    }


def test_jaccard_positives_weigh_shared_labels():
    images, text = embeddings(2)
    sets = torch.tensor([[1, 1, 0], [1, 0, 0]])
    weighted, any_shared = (
        supcon_terms(recipe(batch_size=2, positives=p), images.image_emb, text.sent_emb, sets)[0]["supcon"]
        for p in ("jaccard", "any")
    )
    assert not torch.isclose(weighted, any_shared)
