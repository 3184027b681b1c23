import subprocess
import sys
from functools import partial
from statistics import median

import forked
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
for _ in range(15):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16, 1024, 1024)  # 64 MiB, freed at once
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*pages)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_not_asked_for_again(tmp_path):
    pages, script = {}, tmp_path / "count_pages.py"
    script.write_text(COUNT_PAGES)
    anew = partial(subprocess.run, capture_output=True, text=True)  # where no earlier test has chosen to keep it
    for name, run in (("keep", forked.run), ("default", anew)):
        done = run([sys.executable, script, name], check=True)
        pages[name] = [int(number) for number in done.stdout.split()]
    assert pages["keep"][0] > 1000  # the first time, the system hands out every page
    assert median(pages["keep"]) < 100  # few times more, where small tensors took a part of the freed block
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
