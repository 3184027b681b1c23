"""Rows and sums of two real processes, and what one process makes of them."""

import pytest
import torch
from conftest import in_processes
from torch import nn
from torch.testing import assert_close

from t2i_supcon.processes import broadcast_state, gather_rows, num_processes, process_index, sum_over_processes


def test_one_process_gets_back_what_it_gave():
    rows = torch.randn(3, 2)
    assert (num_processes(), process_index()) == (1, 0)
    assert gather_rows(rows) is rows and sum_over_processes(rows) is rows
    layer = nn.Linear(2, 2)
    before = layer.weight.clone()
    broadcast_state(layer)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("views", [1, 2])
def test_rows_come_view_major_and_gradients_return_to_their_process(views, tmp_path):
    """Each process weighs the gathered rows in its own way; a row's gradient is the sum of all."""

    def step(index):
        rows = (10 * index + torch.arange(4.0)).requires_grad_()
        gathered = gather_rows(rows, views)
        weights = (index + 1) * torch.arange(8.0)
        (weights * gathered.square()).sum().backward()
        return gathered.detach(), rows.grad

    found = in_processes(2, step, tmp_path)
    expected = torch.tensor({1: [0.0, 1, 2, 3, 10, 11, 12, 13], 2: [0.0, 1, 10, 11, 2, 3, 12, 13]}[views])
    grads = 3 * torch.arange(8.0) * 2 * expected  # of both processes' weights
    for index, (gathered, grad) in enumerate(found):
        assert torch.equal(gathered, expected)
        own = [int((expected == value).nonzero()) for value in 10 * index + torch.arange(4.0)]
        assert_close(grad, grads[own])


def test_sums_and_first_weights_are_those_of_all(tmp_path):
    def step(index):
        value = torch.tensor([1.0 + index], requires_grad=True)
        total = sum_over_processes(value)
        (total * (index + 1)).sum().backward()
        torch.manual_seed(index)
        layer = nn.Linear(2, 2)
        broadcast_state(layer)
        return total.detach(), value.grad, layer.weight.detach()

    first, second = in_processes(2, step, tmp_path)
    assert first[0] == second[0] == 3 and first[1] == second[1] == 3
    torch.manual_seed(0)
    assert torch.equal(first[2], second[2]) and torch.equal(first[2], nn.Linear(2, 2).weight)
