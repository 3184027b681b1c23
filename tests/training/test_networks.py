import pytest
import torch
from conftest import tiny_config

from t2i_supcon.models import GANS, DAMSMTextConfig, DAMSMTextEncoder
from t2i_supcon.training.networks import build_network


def test_networks_that_no_memory_holds_are_refused_before_they_are_built():
    config = DAMSMTextConfig(hidden_size=2**16)
    with pytest.raises(ValueError, match=r"makes a DAMSMTextEncoder of 8,\d{3},.* parameters; at most 2,000,000,000"):
        build_network(DAMSMTextEncoder, config)


def test_counting_parameters_leaves_a_network_as_it_would_start(gan_name):
    torch.manual_seed(3)
    built = build_network(GANS[gan_name].generator, tiny_config(gan_name))
    torch.manual_seed(3)
    plain = GANS[gan_name].generator(tiny_config(gan_name))
    assert all(torch.equal(*pair) for pair in zip(built.state_dict().values(), plain.state_dict().values()))
