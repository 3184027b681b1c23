"""What the Space says it needs; `make space` builds an environment of it."""

import configparser
from pathlib import Path

import yaml
from spaces.conftest import FOLDER

import t2i_supcon

ROOT = Path(__file__).parents[2]


def pinned(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name.lower().replace("-", "_"): version for name, version in (line.split("==") for line in lines)}


def test_requirements_are_the_tested_versions_of_all_that_is_needed():
    required = pinned((FOLDER / "requirements.txt").read_text())
    tested = pinned((ROOT / "constraints.txt").read_text())
    assert required.pop("t2i_supcon") == t2i_supcon.__version__
    assert required.items() <= tested.items()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].split() + setup["options.extras_require"]["demo"].split()
    needed = {line.split(">")[0].replace("-", "_") for line in lines}
    assert set(required) == needed


def test_the_card_is_that_of_a_space():
    head = yaml.safe_load((FOLDER / "README.md").read_text().split("---\n")[1])
    assert head["sdk"] == "gradio" and (FOLDER / head["app_file"]).is_file() and (FOLDER / head["thumbnail"]).is_file()
    assert head["sdk_version"] == pinned((FOLDER / "requirements.txt").read_text())["gradio"]
    assert head["python_version"] == "3.11"  # the Hub's default is older than the package takes
    assert len(head["short_description"]) <= 60  # the Hub refuses longer ones
