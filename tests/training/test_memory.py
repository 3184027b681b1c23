import subprocess
import sys

import pytest
import torch
from conftest import tiny_config

from t2i_supcon.models import GANS, DAMSMTextConfig, DAMSMTextEncoder
from t2i_supcon.training.memory import build_network

COUNT_PAGES = """
import resource, sys
import torch

if sys.argv[1] == "keep":
    from t2i_supcon.training.memory import keep_freed_memory
    assert keep_freed_memory()
pages = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16, 1024, 1024)  # 64 MiB, freed at once
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*pages)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_not_asked_for_again(tmp_path):
    pages, script = {}, tmp_path / "count_pages.py"
    script.write_text(COUNT_PAGES)
    for name in ("keep", "default"):  # each a new interpreter: a forked one has the heap of earlier tests
        done = subprocess.run([sys.executable, script, name], capture_output=True, text=True, check=True)
        pages[name] = [int(number) for number in done.stdout.split()]
    assert pages["keep"][0] > 1000  # the first time, the system hands out every page
    assert max(pages["keep"][4:]) < 100
    assert min(pages["default"]) > 1000


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
