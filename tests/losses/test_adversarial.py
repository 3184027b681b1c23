"""Adversarial losses and gradient penalties against closed forms (the authors' numbers are
checked with the models)."""

import math

import pytest
import torch
from golden.weights import Golden
from torch.testing import assert_close

from t2i_supcon.losses import (
    bce_discriminator_loss,
    bce_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    kl_loss,
    matching_aware_gradient_penalty,
    r1_penalty,
)


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


def test_r1_is_half_the_mean_square_of_the_gradients_norm():
    low, high = torch.randn(4, 2, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    logits = low.square().sum(dim=1) + high @ torch.tensor([1.0, 2.0, 0.0])  # gradients 2 * low, and of norm 5 ** 0.5
    expected = (4 * low.detach().square().sum(dim=1) + 5).mean() / 2
    assert_close(r1_penalty(logits, (low, high)).detach(), expected)


def test_penalty_has_the_derivative_of_finite_differences():
    image = torch.randn(3, 4, dtype=torch.float64)
    weight = torch.randn(4, dtype=torch.float64)

    def penalty(w):
        x = image.clone().requires_grad_()
        return matching_aware_gradient_penalty(torch.tanh(x @ w), (x,), power=4.0)

    w = weight.clone().requires_grad_()
    penalty(w).backward()
    step = 1e-3
    numeric = torch.stack(
        [
            (penalty(weight + step * e) - penalty(weight - step * e)) / (2 * step)
            for e in torch.eye(4, dtype=torch.float64)
        ]
    )
    assert_close(w.grad.float(), numeric.detach().float(), rtol=1e-2, atol=1e-4)


def test_penalty_is_differentiable_where_the_gradient_vanishes():
    weight = torch.zeros(2, requires_grad=True)
    image = torch.randn(3, 2, requires_grad=True)
    matching_aware_gradient_penalty(image @ weight, (image,)).backward()
    assert (weight.grad == 0).all()


def test_cross_entropy_losses_by_hand():
    real, fake, wrong, real_uncond, fake_uncond = (
        torch.tensor(x) for x in ([2.0, 0.5], [-2.0, 1.0], [0.0], [1.0, -1.0], [3.0, 0.0])
    )

    def true(x):  # -log sigmoid(x)
        return sum(math.log(1 + math.exp(-v)) for v in x.tolist()) / len(x)

    def false(x):  # -log(1 - sigmoid(x))
        return sum(math.log(1 + math.exp(v)) for v in x.tolist()) / len(x)

    both_heads = (true(real) + true(real_uncond)) / 2 + (false(fake) + false(wrong) + false(fake_uncond)) / 3
    assert bce_discriminator_loss(real, fake, wrong, real_uncond, fake_uncond) == pytest.approx(both_heads)
    assert bce_discriminator_loss(real, fake, wrong) == pytest.approx(true(real) + (false(fake) + false(wrong)) / 2)
    assert bce_discriminator_loss(real, fake) == pytest.approx(true(real) + false(fake))
    assert bce_generator_loss(fake, fake_uncond) == pytest.approx(true(fake) + true(fake_uncond))
    assert bce_generator_loss(fake) == pytest.approx(true(fake))


def test_cross_entropy_stays_finite_where_probabilities_round_to_one():
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = bce_discriminator_loss(logits, logits)
    assert loss.item() == pytest.approx(200.0)
    loss.backward()
    assert_close(logits.grad, torch.tensor([0.5, -0.5]))


def test_kl_loss_is_the_divergence_from_the_standard_normal():
    mu, logvar = torch.randn(3, 4), torch.randn(3, 4)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0)).mean()
    assert_close(kl_loss(mu, logvar), expected)


def test_kl_loss_equals_the_original():
    golden = Golden("damsm_losses")
    mu, logvar = golden.inputs["mu"].requires_grad_(), golden.inputs["logvar"].requires_grad_()
    loss = kl_loss(mu, logvar)
    assert_close(loss, golden.outputs["kl"], rtol=1e-4, atol=0)
    loss.backward()
    assert_close(mu.grad, golden.outputs["kl.grad_mu"], rtol=1e-4, atol=1e-7)
    assert_close(logvar.grad, golden.outputs["kl.grad_logvar"], rtol=1e-4, atol=1e-7)
