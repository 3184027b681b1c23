"""Guidance: its terms written out by hand for two views, what it trains, and what it refuses."""

import ast
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.losses import (
    label_cross_entropy,
    nt_xent_loss,
    sentence_matching_loss,
    unicl_loss,
    word_matching_loss,
)
from t2i_supcon.models import ImageEmbeddings, TextEmbeddings
from t2i_supcon.training import encoder_phase, gan_phase, guidance
from t2i_supcon.training.guidance import TERMS, Guidance

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])  # three pairs, view-major


def embeddings(n=6):
    mask = torch.ones(n, 4, dtype=torch.long)
    mask[1, 2:] = 0
    images = ImageEmbeddings(torch.randn(n, 5), torch.randn(n, 5, 2, 2))
    return images, TextEmbeddings(torch.randn(n, 5), torch.randn(n, 4, 5), mask)


def by_hand(embedded, labels, temperature):
    """The supervised contrastive loss of rows and their labels, term by term."""
    anchors = [(F.normalize(z, dim=0), int(label)) for z, label in zip(embedded, labels)]
    total = 0.0
    for i, (z, label) in enumerate(anchors):
        others = [a for j, a in enumerate(anchors) if j != i]
        positives = [p for p, other in others if other == label]
        assert len(positives) == 3  # own text or image, and both of the partner
        denominator = sum(torch.exp(z @ n / temperature) for n, _ in others)
        total -= sum(torch.log(torch.exp(z @ p / temperature) / denominator) for p in positives) / 3
    return total / len(anchors)


def test_supcon_acts_on_the_quadruple_of_both_views():
    images, text = embeddings()
    result = Guidance({"supcon": 1.0}, supcon_temperature=0.3)(images, text, LABELS, num_views=2)
    together = torch.cat([images.image_emb, text.sent_emb])
    assert_close(result.terms["supcon"], by_hand(together, torch.cat([LABELS, LABELS]), 0.3))
    assert result.statistics["positives"] == 3 and result.statistics.keys() == {"positives", "alignment", "uniformity"}


def test_matching_losses_see_one_view_at_a_time():
    images, text = embeddings()
    guidance = Guidance({"words": 1.0, "sent": 1.0}, gamma1=4, gamma2=5, gamma3=10)
    terms = guidance(images, text, LABELS, num_views=2).terms
    words, sent = 0.0, 0.0
    for rows in (slice(0, 3), slice(3, 6)):
        view = images.region_feats[rows], text.word_embs[rows], text.attention_mask[rows], LABELS[rows]
        words += sum(word_matching_loss(*view, gamma1=4, gamma2=5, gamma3=10)[:2]) / 2
        sent += sum(sentence_matching_loss(images.image_emb[rows], text.sent_emb[rows], LABELS[rows], gamma3=10)) / 2
    assert_close(terms["words"], words)
    assert_close(terms["sent"], sent)


def test_the_mask_of_shared_labels_is_a_switch():
    images, text = embeddings()
    labels = torch.zeros(6, dtype=torch.long)
    assert Guidance({"sent": 1.0})(images, text, labels).terms["sent"] == 0
    assert Guidance({"sent": 1.0}, mask_shared_labels=False)(images, text, labels).terms["sent"] > 0


def test_a_term_without_weight_is_not_computed():
    images, text = embeddings()
    only_sent = Guidance({"sent": 1.0}, region_feats=False)
    assert only_sent(ImageEmbeddings(image_emb=images.image_emb), text, torch.arange(6), 2).terms.keys() == {"sent"}
    nothing = Guidance({})(None, None, None)  # not even its inputs are touched
    assert nothing.terms == {} and nothing.statistics == {}


def test_jaccard_positives_weigh_shared_labels():
    images, text = embeddings(2)
    sets = torch.tensor([[1, 1, 0], [1, 0, 0]])
    weighted, any_shared = (
        Guidance({"supcon": 1.0}, overlap=overlap)(images, text, sets).terms["supcon"] for overlap in ("jaccard", "any")
    )
    assert not torch.isclose(weighted, any_shared)


def test_a_projection_is_trained_and_saved_with_it():
    torch.manual_seed(0)
    images, text = embeddings()
    guidance = Guidance({"supcon": 1.0}, embedding_dim=5, supcon_projection=3, supcon_temperature=0.3)
    loss = guidance(images, text, LABELS, 2).terms["supcon"]
    first, _, second = guidance.heads["supcon"]
    projected = second(F.relu(first(torch.cat([images.image_emb, text.sent_emb]))))
    assert projected.shape == (12, 3)
    assert_close(loss, by_hand(projected, torch.cat([LABELS, LABELS]), 0.3))
    loss.backward()
    assert all(parameter.grad.any() for parameter in guidance.parameters())
    again = Guidance({"supcon": 1.0}, embedding_dim=5, supcon_projection=3, supcon_temperature=0.3)
    again.load_state_dict(guidance.state_dict())
    assert_close(again(images, text, LABELS, 2).terms["supcon"], loss)


def test_the_alternatives_are_the_losses_of_whole_batches():
    images, text = embeddings()
    images.image_emb.requires_grad_()  # phase 2: the text encoder is frozen
    guidance = Guidance({"unicl": 1.0, "nt_xent": 1.0}, unicl_temperature=0.2, nt_xent_temperature=0.4)
    terms = guidance(images, text, LABELS, num_views=2).terms
    same = LABELS[:, None] == LABELS[None, :]
    assert_close(terms["unicl"], unicl_loss(images.image_emb, text.sent_emb, same, 5.0))
    assert_close(terms["nt_xent"], nt_xent_loss(images.image_emb[:3], images.image_emb[3:], 0.4))
    text.sent_emb.requires_grad_()  # phase 1: two captions of one image
    terms = guidance(images, text, LABELS, num_views=2, logit_scale=torch.tensor(3.0)).terms
    assert_close(terms["unicl"], unicl_loss(images.image_emb, text.sent_emb, same, 3.0))
    assert_close(terms["nt_xent"], nt_xent_loss(text.sent_emb[:3], text.sent_emb[3:], 0.4))


@pytest.mark.parametrize("labels", [LABELS, F.one_hot(LABELS, 4)])
def test_a_classifier_of_labels_is_trained_with_it(labels):
    images, text = embeddings()
    guidance = Guidance({"label_ce": 1.0}, embedding_dim=5, num_classes=4)
    loss = guidance(images, text, labels, num_views=2).terms["label_ce"]
    weight, bias = guidance.heads["label_ce"].weight, guidance.heads["label_ce"].bias
    logits = torch.cat([images.image_emb, text.sent_emb]) @ weight.T + bias
    assert_close(loss, label_cross_entropy(logits, torch.cat([labels, labels])))
    loss.backward()
    assert weight.grad.any() and bias.grad.any()


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ({"supcn": 1.0}, {}, "'supcn'; the guidance terms are words, sent"),
        ({"sent": -1.0}, {}, "loss_weights.sent is -1.0; a weight is a number of at least 0"),
        ({"sent": float("nan")}, {}, "loss_weights.sent is nan"),
        ({"words": 1.0}, {"region_feats": False}, "'words', but this image encoder embeds no regions"),
        ({"clip": 1.0}, {}, "'clip', but these encoders have no logit scale"),
        ({"supcon": 1.0}, {"supcon_temperature": 0.0}, "supcon_temperature is 0.0; it must be positive"),
        ({"supcon": 1.0}, {"supcon_projection": 4}, "supcon_projection needs to know embedding_dim"),
        ({"label_ce": 1.0}, {"embedding_dim": 5}, "embedding_dim and num_classes, and these are 5 and None"),
        ({"nt_xent": 1.0}, {"nt_xent_temperature": -1.0}, "nt_xent_temperature is -1.0; it must be positive"),
    ],
)
def test_what_cannot_guide_is_refused(weights, options, message):
    with pytest.raises(ValueError, match=message):
        Guidance(weights, **options)


def test_phases_know_no_term_of_guidance_by_name():
    for module in (encoder_phase, gan_phase):
        source = Path(module.__file__).read_text()
        assert not [name for name in TERMS if f'"{name}"' in source and name != "clip"]  # "clip" is a model, too


def test_its_core_serves_any_loop():
    """Only embeddings and labels are touched, and neither a recipe nor accelerate."""
    imported = set()
    for node in ast.parse(Path(guidance.__file__).read_text()).body:
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    assert not imported & {"recipe", "accelerate", "phase", "loop"}
    images = ImageEmbeddings(torch.randn(4, 8, requires_grad=True))
    core = Guidance({"sent": 1.0, "supcon": 0.5})
    terms = core(images, TextEmbeddings(torch.randn(4, 8)), torch.tensor([0, 0, 1, 1])).terms
    sum(core.weights[name] * term for name, term in terms.items()).backward()
    assert images.image_emb.grad.any()
