"""The page of the public API, against the package: every name in its module, with a line."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import t2i_supcon

PACKAGE = Path(t2i_supcon.__file__).parent
PAGE = (PACKAGE / "README.md").read_text()
MODULES = [
    "t2i_supcon",
    *sorted(
        f"t2i_supcon.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py") if "__all__" in path.read_text()
    ),
]
MODULES.remove("t2i_supcon.models")  # all of it is in t2i_supcon itself


def first_sentence(thing) -> str:
    text = " ".join(inspect.getdoc(thing).split("\n\n")[0].split())
    return re.split(r"\. (?=[A-Z])", text)[0].rstrip(".").replace("|", r"\|")


def row(module: str, name: str) -> str:
    """Of a class or function; a constant says in the page itself what it is."""
    thing = getattr(importlib.import_module(module), name)
    described = inspect.isclass(thing) or inspect.isfunction(thing)
    return f"| `{name}` | {first_sentence(thing)} |" if described else f"| `{name}` | "


def section(module: str) -> list[str]:
    """The table's rows of one module in the page."""
    text = PAGE.split(f"\n## `{module}`\n")[1].split("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_page_has_every_module_and_no_other():
    assert re.findall(r"^## `(.*)`$", PAGE, re.MULTILINE) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_the_page_lists_every_public_name_with_a_line(module):
    names = sorted(importlib.import_module(module).__all__, key=str.lower)
    listed = [re.match(r"\| `(\w+)` \| \S.* \|$", line)[1] for line in section(module)]
    missing = [row(module, name) for name in names if name not in listed]
    assert not missing, "these lines belong into t2i_supcon/README.md:\n" + "\n".join(missing)
    assert listed == names


def test_the_version_is_semantic_and_the_changelog_begins_with_it():
    assert re.fullmatch(r"\d+\.\d+\.\d+", t2i_supcon.__version__)
    setup = (PACKAGE.parent / "setup.cfg").read_text()
    assert f"\nversion = {t2i_supcon.__version__}\n" in setup
    changelog = (PACKAGE.parent / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    assert versions[0] == "Unreleased" or versions[0] == t2i_supcon.__version__
    assert "Semantic Versioning" in changelog


def test_type_checkers_find_the_marker():
    assert (PACKAGE / "py.typed").is_file()
    assert "py.typed" in (PACKAGE.parent / "setup.cfg").read_text()
