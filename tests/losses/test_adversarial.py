"""Hinge losses and the gradient penalty against closed forms (the authors' numbers are checked with the models)."""

import pytest
import torch
from torch.testing import assert_close

from t2i_supcon.losses import hinge_discriminator_loss, hinge_generator_loss, matching_aware_gradient_penalty


def test_hinge_losses_by_hand():
    real, fake, wrong = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 1.0]), torch.tensor([0.0])
    assert hinge_discriminator_loss(real, fake, wrong) == pytest.approx(0.25 + (1.0 + 1.0) / 2)
    assert hinge_discriminator_loss(real, fake) == pytest.approx(0.25 + 1.0)
    assert hinge_generator_loss(fake) == pytest.approx(0.5)


def test_penalty_of_a_linear_score_is_known():
    weight, direction = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    image, text = torch.randn(5, 2, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    logits = image @ weight + text @ direction  # joint gradient norm 5 in every row
    assert matching_aware_gradient_penalty(logits, (image, text)) == pytest.approx(2 * 5.0**6)
    logits = image @ weight + text @ direction
    assert matching_aware_gradient_penalty(logits, (image, text), coefficient=0.5, power=2.0) == pytest.approx(12.5)


def test_penalty_has_the_derivative_of_finite_differences():
    image = torch.randn(3, 4, dtype=torch.float64)
    weight = torch.randn(4, dtype=torch.float64)

    def penalty(w):
        x = image.clone().requires_grad_()
        return matching_aware_gradient_penalty(torch.tanh(x @ w), (x,), power=4.0)

    w = weight.clone().requires_grad_()
    penalty(w).backward()
    step = 1e-3
    numeric = torch.stack([(penalty(weight + step * e) - penalty(weight - step * e)) / (2 * step) for e in torch.eye(4, dtype=torch.float64)])
    assert_close(w.grad.float(), numeric.detach().float(), rtol=1e-2, atol=1e-4)


def test_penalty_is_differentiable_where_the_gradient_vanishes():
    weight = torch.zeros(2, requires_grad=True)
    image = torch.randn(3, 2, requires_grad=True)
    matching_aware_gradient_penalty(image @ weight, (image,)).backward()
    assert (weight.grad == 0).all()
