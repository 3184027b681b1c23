"""The table of what can be prepared."""

import sys
from pathlib import Path

import forked

from t2i_supcon.data import BUILDERS

ROOT = Path(__file__).parents[2]


def test_the_help_names_every_kind_and_the_readme_gives_a_command_of_each():
    script = ROOT / "scripts" / "prepare_data.py"
    shown = forked.run([sys.executable, script, "--help"], check=True).stdout
    readme = (ROOT / "t2i_supcon" / "data" / "README.md").read_text()
    for name, builder in BUILDERS.items():
        assert f"prepare_data.py {name} " in shown and f"    {name} " in shown
        assert " ".join(builder.HELP.split()[:4]) in " ".join(shown.split())
        assert f"prepare_data.py {name} " in readme
