"""The supervised contrastive loss against its authors' code, a slow loop and closed forms."""

import math

import pytest
import torch
from golden.weights import Golden
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon.losses import positive_mask, supcon_loss


def slow_supcon(z, weights, temperature):
    """The definition, anchor by anchor and positive by positive."""
    losses = []
    for a in range(len(z)):
        others = [n for n in range(len(z)) if n != a]
        total = sum(float(weights[a, p]) for p in others)
        if total == 0:
            continue
        denominator = sum(math.exp(float(z[a] @ z[n]) / temperature) for n in others)
        terms = [
            float(weights[a, p]) * math.log(math.exp(float(z[a] @ z[p]) / temperature) / denominator) for p in others
        ]
        losses.append(-sum(terms) / total)
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("layout", ["pairs", "same", "distinct", "uneven"])
@pytest.mark.parametrize(("temperature", "base"), [(0.07, 0.07), (0.5, 0.07), (0.1, 0.1)])
def test_equals_the_original(layout, temperature, base):
    golden = Golden("supcon")
    features = golden.inputs["features"].requires_grad_()  # (N, V, D)
    labels = golden.inputs[f"labels_{layout}"]
    # view-major
    loss = supcon_loss(features.transpose(0, 1).flatten(0, 1), positive_mask(labels.repeat(2)), temperature)
    name = f"all.t{temperature}_bt{base}.{layout}"
    scale = temperature / base  # the authors multiply by this; the paper's equation does not
    assert_close(scale * loss, golden.outputs[f"{name}.loss"], rtol=1e-4, atol=0)
    (scale * loss).backward()
    expected = golden.outputs[f"{name}.grad"]
    assert_close(features.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_rows_without_positive_are_left_out_of_the_mean():
    golden = Golden("supcon")
    labels = golden.inputs["labels_uneven"]  # class 2 has a single row
    loss = supcon_loss(golden.inputs["features_1view"][:, 0], positive_mask(labels), 0.1)
    # the authors count the lonely row as a zero in a mean over all six
    assert_close(loss * 5 / 6, golden.outputs["all.t0.1_bt0.1.1view_uneven.loss"], rtol=1e-4, atol=0)


def test_arbitrary_mask_equals_the_original():
    golden = Golden("supcon")
    mask = golden.inputs["asym_mask"].repeat(2, 2)
    loss = supcon_loss(golden.inputs["features"].transpose(0, 1).flatten(0, 1), mask, 0.1)
    assert_close(loss, golden.outputs["all.t0.1_bt0.1.asym_mask.loss"], rtol=1e-4, atol=0)


@given(st.lists(st.integers(-1, 3), min_size=2, max_size=9), st.sampled_from([0.05, 0.1, 1.0]), st.integers(0, 2**31))
def test_equals_a_slow_loop(labels, temperature, seed):
    z = F.normalize(torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed)), dim=1)
    positives = positive_mask(torch.tensor(labels))
    assert float(supcon_loss(z, positives, temperature)) == pytest.approx(
        slow_supcon(z, positives, temperature), rel=1e-4, abs=1e-5
    )


@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=2, max_size=7),
    st.sampled_from(["any", "jaccard"]),
)
def test_multi_label_masks_equal_set_arithmetic(rows, overlap):
    mask = positive_mask(torch.tensor(rows).long(), overlap)
    sets = [{i for i, on in enumerate(row) if on} for row in rows]
    for a, first in enumerate(sets):
        for b, second in enumerate(sets):
            shared = len(first & second) if a != b else 0
            expected = shared / len(first | second) if overlap == "jaccard" and shared else float(shared > 0)
            assert float(mask[a, b]) == pytest.approx(expected)
    z = F.normalize(torch.randn(len(rows), 4), dim=1)
    assert float(supcon_loss(z, mask, 0.2)) == pytest.approx(slow_supcon(z, mask, 0.2), rel=1e-4, abs=1e-5)


def test_identical_rows_of_one_class_give_the_entropy_of_a_uniform_choice():
    z = F.normalize(torch.ones(5, 3), dim=1)
    assert float(supcon_loss(z, positive_mask(torch.zeros(5, dtype=torch.long)), 0.3)) == pytest.approx(math.log(4))


def test_no_positive_gives_zero_with_zero_gradient():
    z = torch.randn(4, 3, requires_grad=True)
    loss = supcon_loss(z, positive_mask(torch.arange(4)), 0.1)
    loss.backward()
    assert loss == 0 and (z.grad == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: supcon_loss(torch.randn(4, 3), torch.ones(3, 3), 0.1), r"\(3, 3\); 4 embeddings"),
        (lambda: supcon_loss(torch.randn(4, 3), torch.ones(4, 4), 0.0), "temperature is 0.0"),
        (lambda: positive_mask(torch.zeros(2, 2, 2)), r"\(2, 2, 2\)"),
        (lambda: positive_mask(torch.zeros(2), "jaccard"), "multi-hot"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
