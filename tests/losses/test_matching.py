"""The matching losses against the authors' code, a slow loop over captions, transformers' CLIP and
closed forms."""

import pytest
import torch
from golden.weights import Golden
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel

from t2i_supcon.losses import (
    clip_contrastive_loss,
    cosine_matching_loss,
    matching_loss,
    sentence_matching_loss,
    word_matching_loss,
    word_relevance,
)

GAMMAS = {"gamma1": 4.0, "gamma2": 5.0, "gamma3": 10.0}


def word_inputs(golden):
    regions = golden.inputs["img_features"].requires_grad_()
    words = golden.inputs["words_emb"].requires_grad_()  # (B, D, T) there
    mask = (torch.arange(words.shape[2])[None] < golden.inputs["cap_lens"][:, None]).long()
    return regions, words, mask


@pytest.mark.parametrize("mode", ["masked", "nomask"])
def test_word_loss_equals_the_original(mode):
    golden = Golden("damsm_losses")
    regions, words, mask = word_inputs(golden)
    labels = golden.inputs["class_ids"] if mode == "masked" else None
    first, second, attentions = word_matching_loss(regions, words.transpose(1, 2), mask, labels, **GAMMAS)
    assert_close(first, golden.outputs[f"words.{mode}.loss0"], rtol=1e-4, atol=0)
    assert_close(second, golden.outputs[f"words.{mode}.loss1"], rtol=1e-4, atol=0)
    for loss, name in ((first, "loss0"), (second, "loss1")):
        if f"words.{mode}.{name}.grad_words_emb" in golden.outputs:
            (grad,) = torch.autograd.grad(loss, words, retain_graph=True)
            expected = golden.outputs[f"words.{mode}.{name}.grad_words_emb"]
            assert_close(grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    (first + second).backward()
    for tensor, name in ((regions, "grad_img_features"), (words, "grad_words_emb")):
        expected = golden.outputs[f"words.{mode}.{name}"]
        assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    for row, length in enumerate(golden.inputs["cap_lens"].tolist()):
        assert_close(attentions[row : row + 1, :length], golden.outputs[f"words.att_map{row}"], atol=1e-6, rtol=1e-4)
        assert (attentions[row, length:] == 0).all()


@pytest.mark.parametrize("mode", ["masked", "nomask"])
def test_sentence_loss_equals_the_original(mode):
    golden = Golden("damsm_losses")
    image, sentence = golden.inputs["cnn_code"].requires_grad_(), golden.inputs["rnn_code"].requires_grad_()
    labels = golden.inputs["class_ids"] if mode == "masked" else None
    first, second = sentence_matching_loss(image, sentence, labels, gamma3=10.0)
    assert_close(first, golden.outputs[f"sent.{mode}.loss0"], rtol=1e-4, atol=0)
    assert_close(second, golden.outputs[f"sent.{mode}.loss1"], rtol=1e-4, atol=0)
    (first + second).backward()
    for tensor, name in ((image, "grad_cnn_code"), (sentence, "grad_rnn_code")):
        expected = golden.outputs[f"sent.{mode}.{name}"]
        assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_word_loss_equals_a_loop_over_captions():
    b, d, t = 4, 6, 5
    regions, words, lengths = torch.randn(b, d, 2, 3), torch.randn(b, t, d), torch.tensor([5, 1, 3, 2])
    labels = torch.tensor([0, 1, 0, -1])
    mask = (torch.arange(t)[None] < lengths[:, None]).long()
    scores = torch.zeros(b, b)
    for i in range(b):  # caption
        e = words[i, : lengths[i]]
        for j in range(b):  # image
            v = regions[j].flatten(1)  # (D, R)
            alpha = (3.0 * (e @ v).softmax(dim=0)).softmax(dim=1)
            scores[j, i] = 7.0 * torch.log(torch.exp(2.0 * F.cosine_similarity(alpha @ v.T, e, dim=1)).sum())
    scores[0, 2] = scores[2, 0] = float("-inf")
    first, second, _ = word_matching_loss(regions, words, mask, labels, gamma1=3.0, gamma2=2.0, gamma3=7.0)
    assert_close(first, F.cross_entropy(scores, torch.arange(b)))
    assert_close(second, F.cross_entropy(scores.T, torch.arange(b)))


def test_losses_do_not_depend_on_padding():
    regions, words = torch.randn(3, 4, 2, 2), torch.randn(3, 6, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]] * 3)
    short = word_matching_loss(regions, words[:, :3], mask[:, :3])
    long = word_matching_loss(regions, words, mask)
    assert_close(short[:2], long[:2])


def test_a_batch_of_one_class_has_nothing_to_tell_apart():
    first, second = sentence_matching_loss(torch.randn(4, 3), torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    assert first == 0 and second == 0


def test_clip_loss_equals_that_of_transformers():
    config = CLIPConfig(
        projection_dim=6,
        text_config={
            "vocab_size": 12,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
        | {"bos_token_id": 10, "eos_token_id": 11},
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
    )
    model = CLIPModel(config)
    ids = torch.cat([torch.randint(0, 10, (5, 4)), torch.full((5, 1), 11)], dim=1)
    out = model(input_ids=ids, pixel_values=torch.randn(5, 3, 8, 8), return_loss=True)
    image, sentence = 3 * out.image_embeds, 0.2 * out.text_embeds  # lengths must not matter
    first, second = clip_contrastive_loss(image, sentence, model.logit_scale.exp())
    assert_close((first + second) / 2, out.loss)
    assert_close(first, F.cross_entropy(out.logits_per_image, torch.arange(5)))
    grads = [
        torch.autograd.grad(loss, model.logit_scale, retain_graph=True)[0] for loss in ((first + second) / 2, out.loss)
    ]
    assert_close(*grads)


def test_clip_loss_leaves_rows_of_the_same_label_out():
    angles = torch.tensor([0.0, 0.3, 2.0])
    image = torch.stack([angles.cos(), angles.sin()], dim=1)
    first, second = clip_contrastive_loss(image, image, 4.0, torch.tensor([7, 7, 1]))
    far, near = 4 * torch.cos(angles[2] - angles[:2]), torch.tensor(4.0)
    two = torch.log(1 + torch.exp(far - near))  # rows 0 and 1 each see themselves and row 2 only
    three = torch.log(1 + torch.exp(far - near).sum())
    assert_close(first, (two.sum() + three) / 3)
    assert_close(second, first)


def test_cosine_loss_in_closed_form():
    image = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    sentence = torch.tensor([[5.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    assert_close(cosine_matching_loss(image, sentence), torch.tensor(-(1 - 1 + 0.5**0.5) / 3))


def test_relevance_of_some_images_is_those_rows_of_all():
    """As several processes share the work: each scores its own images against all captions, and the
    loss sees all rows."""
    regions, words, mask = torch.randn(5, 6, 2, 3), torch.randn(5, 4, 6), torch.ones(5, 4, dtype=torch.long)
    mask[2, 1:] = 0
    parts = [word_relevance(regions[rows], words, mask, 4.0, 5.0) for rows in (slice(0, 2), slice(2, 5))]
    assert [relevance.shape for relevance in parts] == [(2, 5), (3, 5)]
    expected = word_matching_loss(regions, words, mask, **GAMMAS)
    assert_close(matching_loss(10.0 * torch.cat(parts)), expected[:2])
