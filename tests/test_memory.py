import subprocess
import sys

import pytest

COUNT_PAGES = """
import resource, sys
import torch

if sys.argv[1] == "keep":
    from t2i_supcon.memory import keep_freed_memory
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
