"""The face that both phases have, and the sums of step results."""

import inspect

import pytest
import torch
from training.test_optimisation import encoder_phase, gan_phase

from t2i_supcon.training.phase import Phase, StepResult, mean_result

PROMISED = [name for name, _ in inspect.getmembers(Phase, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("make", [encoder_phase, gan_phase])
def test_both_phases_have_every_method_and_attribute(make, encoders):
    phase = make(encoders)
    assert {"train_step", "evaluate", "state_dict"} <= set(PROMISED)
    for name in PROMISED:
        promised = list(inspect.signature(getattr(Phase, name)).parameters)[1:]  # without self
        assert list(inspect.signature(getattr(phase, name)).parameters) == promised, name
    assert phase.step == 0 and phase.image_sizes == (16,)


def test_results_join_and_have_names_of_the_log():
    generator = StepResult({"g_adv": 1.0}, {"positives": 2.0}, {"generator": 3.0})
    discriminator = StepResult({"d_adv": 4.0}, gradient_norms={"discriminator": 5.0})
    assert (generator | discriminator).by_log_name() == {
        "g_adv": 1.0,
        "d_adv": 4.0,
        "stats/positives": 2.0,
        "grad_norm/generator": 3.0,
        "grad_norm/discriminator": 5.0,
    }


def test_the_mean_of_micro_batches_has_no_graph():
    weight = torch.ones((), requires_grad=True)
    results = [StepResult({"words": weight * value}, {"positives": torch.tensor(value + 1)}) for value in (1.0, 4.0)]
    mean = mean_result(results)
    assert mean.by_log_name() == {"words": 2.5, "stats/positives": 3.5}
    assert not mean.terms["words"].requires_grad
