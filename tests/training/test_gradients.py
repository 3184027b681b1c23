"""What each loss term of phase 2 asks of the generated pictures."""

import json
import shutil
import sys
from pathlib import Path

import forked
import pytest

from t2i_supcon.training import show_gradients

SCRIPT = Path(__file__).parents[2] / "scripts" / "show_gradients.py"


def test_a_run_tells_how_its_terms_pull(phase2, tmp_path):
    table = show_gradients(phase2, tmp_path / "out", batches=2)
    numbers = json.loads((tmp_path / "out" / "gradients.json").read_text())
    names = ["g_adv", "words", "sent", "supcon"]
    assert (numbers["step"], numbers["batches"], numbers["rows"]) == (7, 2, 8)
    assert list(numbers["norms"]) == names and min(numbers["norms"].values()) > 0
    for name in names:
        assert numbers["cosines"][name][name] == pytest.approx(1, abs=1e-5)
        for other in names:
            assert numbers["cosines"][name][other] == pytest.approx(numbers["cosines"][other][name], abs=1e-6)
    assert list(numbers["drawn"]) == names and list(numbers["real"]) == names[1:]
    assert (tmp_path / "out" / "gradients.md").read_text() == table + "\n"
    values = [numbers[key]["supcon"] for key in ("drawn", "real", "norms")]
    assert "| supcon | 0.1 | {:.3f} | {:.3f} | {:.3f} |".format(*values) in table
    assert f"| g_adv | 1 | {numbers['drawn']['g_adv']:.3f} |  | {numbers['norms']['g_adv']:.3f} |" in table
    twice = show_gradients(phase2, tmp_path / "twice", 2, ["loss_weights.supcon=0.2"])
    weighted = json.loads((tmp_path / "twice" / "gradients.json").read_text())["norms"]
    assert weighted["supcon"] == pytest.approx(2 * numbers["norms"]["supcon"], rel=1e-4) and twice != table


def test_overrides_may_stand_behind_options(phase1, phase2, tmp_path):
    encoders = shutil.copytree(phase1 / "model", tmp_path / "moved")
    command = [sys.executable, SCRIPT, phase2, "--batches", 1, f"encoders={encoders}", "--output", tmp_path / "out"]
    done = forked.run(command)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "gradients.json").read_text())["batches"] == 1


def test_what_has_no_gradients_to_show_is_named(phase1, phase2, tmp_path):
    with pytest.raises(ValueError, match="a run of phase 1"):
        show_gradients(phase1, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="there is no recipe file"):
        show_gradients(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "begun").mkdir()
    shutil.copy(phase2 / "recipe.yaml", tmp_path / "begun")
    with pytest.raises(FileNotFoundError, match="begun/checkpoints holds no checkpoint"):
        show_gradients(tmp_path / "begun", tmp_path / "out")
    assert not (tmp_path / "out").exists()
