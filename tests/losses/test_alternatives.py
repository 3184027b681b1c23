"""The objectives that SupCon is compared with: against recorded values, slow loops, CLIP's loss and
closed forms."""

import math

import pytest
import torch
from golden.weights import Golden
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.losses import (
    clip_contrastive_loss,
    label_cross_entropy,
    nt_xent_loss,
    positive_mask,
    supcon_loss,
    unicl_loss,
)

EXACT = {"rtol": 1e-6, "atol": 1e-6}
SCALES = {"s14.29": 1 / 0.07, "s100": 100.0}


def unicl_inputs(golden, case, dtype):
    embeddings = [golden.inputs[f"{case}.{name}_emb"].to(dtype).requires_grad_() for name in ("image", "sent")]
    return *embeddings, golden.inputs[f"{case}.labels"]


@pytest.mark.parametrize("case", ["pairs", "unique", "same", "uneven", "unlabelled"])
@pytest.mark.parametrize("scale", SCALES)
def test_unicl_equals_the_recorded_values(case, scale):
    golden = Golden("unicl")
    image, sentence, labels = unicl_inputs(golden, case, torch.float64)
    logit_scale = torch.tensor(SCALES[scale], dtype=torch.float64, requires_grad=True)
    loss = unicl_loss(image, sentence, positive_mask(labels), logit_scale)
    loss.backward()
    expected = {name: golden.outputs[f"{case}.{scale}.{name}"] for name in ("loss", "grad_image_emb", "grad_sent_emb")}
    assert_close(loss, expected["loss"], **EXACT)
    assert_close(image.grad, expected["grad_image_emb"], **EXACT)
    assert_close(sentence.grad, expected["grad_sent_emb"], **EXACT)
    assert_close(logit_scale.grad, golden.outputs[f"{case}.{scale}.grad_logit_scale"], **EXACT)
    single = unicl_loss(image.detach().float(), sentence.detach().float(), positive_mask(labels), SCALES[scale])
    assert single.dtype == torch.float32
    assert_close(single.double(), expected["loss"], **EXACT)


@pytest.mark.parametrize("overlap", ["any", "jaccard"])
def test_unicl_of_several_labels_equals_the_recorded_values(overlap):
    golden = Golden("unicl")
    image, sentence, labels = unicl_inputs(golden, "multihot", torch.float64)
    loss = unicl_loss(image, sentence, positive_mask(labels, overlap), SCALES["s14.29"])
    loss.backward()
    assert_close(loss, golden.outputs[f"multihot_{overlap}.loss"], **EXACT)
    assert_close(image.grad, golden.outputs[f"multihot_{overlap}.grad_image_emb"], **EXACT)
    assert_close(sentence.grad, golden.outputs[f"multihot_{overlap}.grad_sent_emb"], **EXACT)


def slow_unicl(image, sentence, weights, scale):
    """The definition, row by row; `weights` has its diagonal set."""
    b, total = len(image), 0.0
    cosine = [[float(F.cosine_similarity(i, s, dim=0)) for s in sentence] for i in image]
    for direction in (lambda row, column: (row, column), lambda row, column: (column, row)):
        for row in range(b):
            cells = [direction(row, column) for column in range(b)]
            logits = [scale * cosine[i][s] for i, s in cells]
            share = [float(weights[i, s]) for i, s in cells]
            log_sum = math.log(sum(math.exp(logit) for logit in logits))
            total -= sum(w * (logit - log_sum) for w, logit in zip(share, logits)) / sum(share)
    return total / (2 * b)


@given(st.integers(1, 6), st.sampled_from([1.0, 10.0]), st.integers(0, 2**31))
def test_unicl_equals_a_slow_loop(b, scale, seed):
    random = torch.Generator().manual_seed(seed)
    image, sentence = torch.randn(2, b, 4, generator=random, dtype=torch.float64)
    weights = torch.rand(b, b, generator=random, dtype=torch.float64)  # of no symmetry
    own = torch.eye(b, dtype=torch.bool)
    expected = slow_unicl(image, sentence, weights.masked_fill(own, 1), scale)
    assert float(unicl_loss(image, sentence, weights, scale)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert float(unicl_loss(image, sentence, weights.masked_fill(own, 0), scale)) == pytest.approx(expected, rel=1e-9)


def test_unicl_with_unique_labels_is_clip():
    image, sentence = torch.randn(2, 6, 5, dtype=torch.float64)
    expected = sum(clip_contrastive_loss(image, sentence, 14.0)) / 2
    assert_close(unicl_loss(image, sentence, positive_mask(torch.arange(6)), 14.0), expected)


def test_unicl_of_one_label_is_at_best_the_entropy_of_a_uniform_choice():
    same = positive_mask(torch.zeros(5, dtype=torch.long))
    assert float(unicl_loss(torch.ones(5, 3), 7 * torch.ones(5, 3), same, 100.0)) == pytest.approx(math.log(5))
    assert float(unicl_loss(torch.randn(5, 3), torch.randn(5, 3), same, 100.0)) > math.log(5)


@pytest.mark.parametrize("loss", [unicl_loss, nt_xent_loss])
def test_opposite_embeddings_stay_finite_in_float32(loss):
    """Logits of one row lie 200 apart, where float32's softmax is 0 and its logarithm infinite."""
    image = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    sentence = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    settings = (positive_mask(torch.tensor([0, 0, 1, 2])), 100.0) if loss is unicl_loss else (0.01,)
    value = loss(image, sentence, *settings)
    value.backward()
    assert value.isfinite() and value > 25
    assert image.grad.isfinite().all() and sentence.grad.isfinite().all()


@pytest.mark.parametrize("tau", [0.5, 0.1])
def test_nt_xent_equals_the_original(tau):
    golden = Golden("ntxent")
    a, b = (golden.inputs[name].requires_grad_() for name in ("z_i", "z_j"))
    loss = nt_xent_loss(a, b, tau)
    loss.backward()
    assert_close(loss, golden.outputs[f"tau{tau}.loss"], **EXACT)
    assert_close(a.grad, golden.outputs[f"tau{tau}.grad_z_i"], **EXACT)
    assert_close(b.grad, golden.outputs[f"tau{tau}.grad_z_j"], **EXACT)


def test_nt_xent_of_rows_of_another_length_is_the_same():
    golden = Golden("ntxent")
    loss = nt_xent_loss(3 * golden.inputs["z_i"], 0.2 * golden.inputs["z_j"], 0.5)
    assert_close(loss, golden.outputs["prenorm_tau0.5.loss"], **EXACT)  # the authors' trainers divide by the lengths


def test_nt_xent_is_supcon_with_every_sample_a_label():
    a, b = F.normalize(torch.randn(2, 5, 4, dtype=torch.float64), dim=2)
    expected = supcon_loss(torch.cat([a, b]), positive_mask(torch.tensor([3, 1, 4, 0, 9] * 2)), 0.3)
    assert_close(nt_xent_loss(a, b, 0.3), expected)


def classifier(dtype=torch.float64):
    golden = Golden("cross_entropy")
    leaves = [golden.inputs[name].to(dtype).requires_grad_() for name in ("features", "weight", "bias")]
    return golden, leaves, F.linear(*leaves)


@pytest.mark.parametrize(("labels", "name"), [("labels", "ids"), ("multihot", "multihot_bce")])
def test_label_cross_entropy_equals_the_recorded_values(labels, name):
    golden, leaves, logits = classifier()
    loss = label_cross_entropy(logits, golden.inputs[labels])
    loss.backward()
    assert_close(loss, golden.outputs[f"{name}.loss"], **EXACT)
    for leaf, part in zip(leaves, ("features", "weight", "bias")):
        assert_close(leaf.grad, golden.outputs[f"{name}.grad_{part}"], **EXACT)
    single = label_cross_entropy(classifier(torch.float32)[2], golden.inputs[labels])
    assert single.dtype == torch.float32
    assert_close(single.double(), golden.outputs[f"{name}.loss"], **EXACT)


def test_label_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 1.0], [math.log(4), 0.0]])
    labels = torch.tensor([1, -1, 1])
    assert float(label_cross_entropy(logits, labels)) == pytest.approx(-(math.log(3 / 4) + math.log(1 / 5)) / 2)
    several = torch.tensor([[1, 1], [0, 0], [0, 1]]).bool()
    terms = [math.log(1 + math.exp(-x if on else x)) for x, on in zip(logits.flatten(), several.flatten())]
    assert float(label_cross_entropy(logits, several)) == pytest.approx(sum(terms) / 6)


def test_no_label_gives_zero_with_zero_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = label_cross_entropy(logits, torch.tensor([-1, -7, -1]))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


THREE = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unicl_loss(THREE, torch.ones(4, 2), torch.eye(3), 10.0), r"\(3, 2\) and \(4, 2\)"),
        (lambda: unicl_loss(THREE, THREE, torch.eye(4), 10.0), r"\(4, 4\); 3 images and texts need \(3, 3\)"),
        (lambda: unicl_loss(THREE, THREE, torch.eye(3), 0.0), "logit_scale is 0.0; it must be positive"),
        (lambda: unicl_loss(THREE, THREE, torch.eye(3), math.nan), "logit_scale is nan"),
        (lambda: unicl_loss(torch.ones(0, 2), torch.ones(0, 2), torch.ones(0, 0), 10.0), "at least one row"),
        (lambda: nt_xent_loss(THREE, torch.ones(3, 3), 0.5), r"\(3, 2\) and \(3, 3\)"),
        (lambda: nt_xent_loss(THREE, THREE, -1.0), "temperature is -1.0; it must be positive"),
        (lambda: nt_xent_loss(THREE, THREE, math.nan), "temperature is nan"),
        (lambda: label_cross_entropy(THREE, torch.zeros(4, dtype=torch.long)), r"\(3, 2\) and labels \(4,\)"),
        (lambda: label_cross_entropy(torch.ones(3), torch.zeros(3, dtype=torch.long)), r"\(3,\) and labels \(3,\)"),
        (lambda: label_cross_entropy(THREE, torch.tensor([0, 2, 1])), "label 2 does not fit 2 classes"),
        (lambda: unicl_loss([1.0], [1.0], [1.0], 1.0), "unicl_loss needs torch tensors, not list"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
