"""Every loss keeps its precision: float32 inside a caller's autocast, float64 for float64."""

import pytest
import torch
from torch.testing import assert_close

from t2i_supcon import losses
from t2i_supcon.losses import positive_mask

LABELS = torch.tensor([0, 0, 1, -1])
MULTI_HOT = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]])
JACCARD = positive_mask(MULTI_HOT, "jaccard")
WORDS = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]])


def penalised(inputs, sentences, weight, projection):
    """Logits of a small network, and what penalties differentiate them by."""
    leaves = (inputs, sentences)
    with torch.autocast("cpu", enabled=False):
        logits = (torch.tanh(inputs @ weight) * (sentences @ projection)).sum(dim=1)
    return logits, leaves


LOGITS = [(4,), (4,)]
EMBEDDINGS = [(4, 6), (4, 6)]
# each loss with the shapes of the tensors it is differentiated by
CALLS = {
    "bce_discriminator_loss": (losses.bce_discriminator_loss, [(4,), (4,), (3,), (4,), (4,)]),
    "bce_generator_loss": (losses.bce_generator_loss, LOGITS),
    "clip_contrastive_loss": (lambda a, b, s: losses.clip_contrastive_loss(a, b, s.exp(), LABELS), [*EMBEDDINGS, ()]),
    "cosine_matching_loss": (losses.cosine_matching_loss, EMBEDDINGS),
    "hinge_discriminator_loss": (losses.hinge_discriminator_loss, [(4,), (4,), (3,)]),
    "hinge_generator_loss": (losses.hinge_generator_loss, [(4,)]),
    "kl_loss": (losses.kl_loss, EMBEDDINGS),
    "label_cross_entropy": (
        lambda x: torch.stack([losses.label_cross_entropy(x, LABELS), losses.label_cross_entropy(x, MULTI_HOT)]),
        [(4, 3)],
    ),
    "matching_aware_gradient_penalty": (
        lambda *tensors: losses.matching_aware_gradient_penalty(*penalised(*tensors), power=4.0),
        [*EMBEDDINGS, (6, 5), (6, 5)],
    ),
    "matching_loss": (lambda x: losses.matching_loss(x, LABELS), [(4, 4)]),
    "nt_xent_loss": (lambda a, b: losses.nt_xent_loss(a, b, 0.2), EMBEDDINGS),
    "pixel_loss": (losses.pixel_loss, [(2, 3, 4, 4), (2, 3, 4, 4)]),
    "r1_penalty": (lambda *tensors: losses.r1_penalty(*penalised(*tensors)), [*EMBEDDINGS, (6, 5), (6, 5)]),
    "sentence_matching_loss": (lambda a, b: losses.sentence_matching_loss(a, b, LABELS), EMBEDDINGS),
    "supcon_loss": (lambda z: losses.supcon_loss(z, JACCARD, 0.5), [(4, 6)]),
    "unicl_loss": (lambda a, b, s: losses.unicl_loss(a, b, JACCARD, s.exp()), [*EMBEDDINGS, ()]),
    "word_matching_loss": (
        lambda r, w: losses.word_matching_loss(r, w, WORDS, LABELS),
        [(4, 6, 2, 2), (4, 3, 6)],
    ),
    "word_relevance": (lambda r, w: losses.word_relevance(r, w, WORDS), [(4, 6, 2, 2), (4, 3, 6)]),
}


def tensors(name, dtype):
    return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in CALLS[name][1]]


def listed(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def test_every_loss_is_tried():
    assert {*CALLS, "positive_mask"} == set(losses.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_float64_stays_float64_and_has_the_derivative_of_finite_differences(name):
    call, inputs = CALLS[name][0], tensors(name, torch.float64)
    assert {output.dtype for output in listed(call(*inputs))} == {torch.float64}
    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("name", CALLS)
def test_autocast_does_not_reach_inside(name):
    call, inputs = CALLS[name][0], tensors(name, torch.float32)
    plain = listed(call(*inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = listed(call(*inputs))
        assert (inputs[0].flatten()[:1, None] @ inputs[0].flatten()[None, :1]).dtype == torch.bfloat16  # it is on
    for ours, expected in zip(inside, plain, strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, expected)
        weights = torch.randn_like(expected)
        gradients = [torch.autograd.grad((weights * x).sum(), inputs, retain_graph=True) for x in (ours, expected)]
        assert all(torch.equal(mine, other) for mine, other in zip(*gradients))


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"matching_aware_gradient_penalty", "r1_penalty"}))
def test_half_precision_is_widened(name):
    call, inputs = CALLS[name][0], tensors(name, torch.bfloat16)
    wide = [tensor.detach().float() for tensor in inputs]
    for ours, expected in zip(listed(call(*inputs)), listed(call(*wide)), strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, expected, rtol=1e-2, atol=1e-2)  # exp() of a scale in bfloat16 is the test's own


def test_penalties_of_half_precision_are_summed_in_float32():
    image = torch.full((2, 512), 0.5, dtype=torch.bfloat16, requires_grad=True)
    logits = (image * torch.full((512,), 0.126953125, dtype=torch.bfloat16)).float().sum(dim=1)
    expected = 512 * 0.126953125**2  # 8.2519..., 8.25 in bfloat16
    assert float(losses.matching_aware_gradient_penalty(logits, (image,), 1.0, 2.0)) == pytest.approx(expected)
    logits = (image * torch.full((512,), 0.126953125, dtype=torch.bfloat16)).float().sum(dim=1)
    assert float(losses.r1_penalty(logits, (image,))) == pytest.approx(expected / 2)


def test_weights_of_positives_are_exact_inside_autocast():
    labels = torch.ones(3, 301, dtype=torch.long)
    labels[2, 1:] = 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = positive_mask(labels, "jaccard")
    assert weights.dtype == torch.float32
    assert weights[0, 1] == 1 and float(weights[0, 2]) == pytest.approx(1 / 301)
    assert positive_mask(labels.double(), "jaccard").dtype == torch.float64
