"""The contrast of anybody's embeddings, against the formula written out in loops."""

import math

import pytest
import torch
from conftest import in_processes
from torch.nn import functional as F
from torch.testing import assert_close

from t2i_supcon import SupConGuidance
from t2i_supcon.contrast import contrasted, projection_head
from t2i_supcon.losses import positive_mask, supcon_loss


def slow_loss(labels, rows, temperature):
    """Eq. 2 of Khosla et al., pair by pair, of rows and their labels."""
    units = [row / row.norm() for row in rows.double()]
    losses = []
    for a, anchor in enumerate(units):
        similarities = {n: float(anchor @ other) / temperature for n, other in enumerate(units) if n != a}
        positives = [p for p in similarities if labels[p] == labels[a] >= 0]
        if positives:
            total = sum(math.exp(value) for value in similarities.values())
            losses.append(-sum(math.log(math.exp(similarities[p]) / total) for p in positives) / len(positives))
    return sum(losses) / len(losses)


def test_loss_equals_the_formula():
    labels, images, texts = torch.tensor([0, 1, 0, 2, -1, 1]), torch.randn(6, 5), torch.randn(6, 5)
    found = SupConGuidance(temperature=0.3)(labels, images, texts)
    assert_close(float(found), slow_loss([*labels, *labels], torch.cat([images, texts]), 0.3), rtol=1e-5, atol=0)
    alone = SupConGuidance(temperature=0.3)(labels, images)
    assert_close(float(alone), slow_loss(list(labels), images, 0.3), rtol=1e-5, atol=0)


def test_lengths_of_embeddings_do_not_matter_and_order_does_not():
    labels, images, texts = torch.tensor([0, 1, 0, 1]), torch.randn(4, 5), torch.randn(4, 5)
    guidance = SupConGuidance()
    expected = guidance(labels, images, texts)
    assert_close(guidance(labels, 7 * images, 0.1 * texts), expected)
    order = torch.tensor([2, 0, 3, 1])
    assert_close(guidance(labels[order], texts[order], images[order]), expected)


def test_labels_of_several_kinds():
    sets, rows = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]]), torch.randn(3, 4)
    for overlap in ("any", "jaccard"):
        expected = supcon_loss(F.normalize(rows, dim=1), positive_mask(sets, overlap), 0.1)
        assert_close(SupConGuidance(overlap=overlap)(sets, rows), expected)
    nobody = torch.full((3,), -1)
    rows.requires_grad_()
    loss = SupConGuidance()(nobody, rows)
    loss.backward()
    assert loss == 0 and not rows.grad.any()


def test_minimising_it_draws_rows_of_one_label_together():
    labels, rows = torch.tensor([0, 0, 1, 1]), torch.nn.Parameter(torch.randn(4, 3))
    guidance, adam = SupConGuidance(temperature=1.0), torch.optim.Adam([rows], 0.1)
    before = guidance.statistics(labels, rows)
    for _ in range(200):
        adam.zero_grad()
        guidance(labels, rows).backward()
        adam.step()
    after = guidance.statistics(labels, rows)
    assert before["positives"] == after["positives"] == 1
    assert after["alignment"] < 0.05 < before["alignment"]
    units = F.normalize(rows.detach(), dim=1)
    assert units[0] @ units[1] > 0.95 and units[0] @ units[2] < 0


def test_only_a_projection_is_trained():
    assert not list(SupConGuidance().parameters())
    guidance = SupConGuidance(embedding_dim=5, projection_dim=2)
    labels, rows = torch.tensor([0, 1, 0, 1]), torch.randn(4, 5)
    loss = guidance(labels, rows)
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in guidance.parameters())
    first, _, second = guidance.projection
    by_hand = (rows @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    assert_close(float(loss.detach()), slow_loss(list(labels), by_hand.detach(), 0.1), rtol=1e-4, atol=0)
    assert [tuple(p.shape) for p in projection_head(5, 2).parameters()] == [(5, 5), (5,), (2, 5), (2,)]


def test_labels_repeat_for_every_embedding():
    embeddings, positives = contrasted(torch.randn(6, 3), torch.tensor([0, 1, -1]), None, "any")
    assert_close(embeddings.norm(dim=1), torch.ones(6))
    assert positives.nonzero().tolist() == [[0, 3], [1, 4], [3, 0], [4, 1]]


def test_two_processes_contrast_as_one_with_the_whole_batch(tmp_path):
    labels, rows = torch.tensor([0, 1, 0, 2, 1, 0]), torch.randn(6, 4)

    def step(index):
        mine = slice(3 * index, 3 * index + 3)
        weight = torch.eye(4, requires_grad=True)
        loss = SupConGuidance()(labels[mine], rows[mine] @ weight, rows[mine])
        loss.backward()
        try:
            SupConGuidance()(labels[: 2 + index], rows[: 2 + index])
        except ValueError as error:
            return loss.detach(), weight.grad, str(error)

    weight = torch.eye(4, requires_grad=True)
    expected = SupConGuidance()(labels, rows @ weight, rows)
    expected.backward()
    found = in_processes(2, step, tmp_path)
    for loss, _, message in found:
        assert_close(loss, expected.detach())
        assert "batches have [2, 3] rows; all need the same number" in message
    assert_close(sum(grad for _, grad, _ in found) / 2, weight.grad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "temperature is 0; it must be positive"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"overlap": "all"}, "overlap is 'all'; it must be 'any' or 'jaccard'"),
        ({"projection_dim": 3}, "embedding_dim is None and projection_dim 3; a projection needs both"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SupConGuidance(**arguments)


@pytest.mark.parametrize(
    "embeddings", [(), (torch.randn(2, 4),), (torch.randn(3, 4), torch.randn(3, 5)), (torch.randn(3, 4, 2),)]
)
def test_embeddings_that_do_not_fit_are_refused(embeddings):
    with pytest.raises(ValueError, match=r"embeddings have shapes \[.*\]; 3 labels need one or more \(N, D\)"):
        SupConGuidance()(torch.tensor([0, 1, 0]), *embeddings)
