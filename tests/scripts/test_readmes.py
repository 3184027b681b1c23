"""What the READMEs say of commands and fields, against the scripts and the dataclasses."""

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import io
import re
from pathlib import Path

import pytest

from t2i_supcon.training.recipe import DataRecipe, EncoderRecipe, EvaluationRecipe, GANRecipe, Recipe, load_recipe

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "scripts" / "recipes"
READMES = sorted(path for path in ROOT.rglob("README.md") if ".venv" not in path.parts and "runs" not in path.parts)


def described_fields(recipe_class):
    """(names, text) of each entry of a recipe's docstring."""
    entries = inspect.getdoc(recipe_class).split("Args:\n")[1]
    for entry in re.split(r"\n(?=    \S)", entries):
        names, text = entry.strip().split(": ", 1)
        yield names.split(", "), " ".join(text.split())


def shown_default(field):
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "(needed)"
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if isinstance(default, (DataRecipe, EvaluationRecipe)):
        return "(below)"
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    return str(list(default) if isinstance(default, tuple) else default)


def recipe_table(recipe_class, prefix=""):
    """The table of a recipe's own fields as scripts/README.md has it."""
    fields = {field.name: field for field in dataclasses.fields(recipe_class)}
    lines = ["| field | default | values | meaning |", "|---|---|---|---|"]
    for names, text in described_fields(recipe_class):
        described = [fields[name] for name in names]
        shown = list(dict.fromkeys(map(shown_default, described)))
        literals = re.findall(r"Literal\[(.*?)\]", str(described[0].type))
        allowed = re.findall(r"'(\w+)'", literals[0]) if literals else [str(described[0].metadata.get("range", ""))]
        cells = ", ".join(f"`{prefix}{name}`" for name in names), ", ".join(shown), ", ".join(allowed), text
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("recipe_class", "prefix"),
    [(Recipe, ""), (EncoderRecipe, ""), (GANRecipe, ""), (DataRecipe, "data."), (EvaluationRecipe, "evaluation.")],
)
def test_the_tables_of_recipe_fields_are_those_of_the_dataclasses(recipe_class, prefix):
    described = {name for names, _ in described_fields(recipe_class) for name in names}
    inherited = (
        {field.name for field in dataclasses.fields(Recipe)} if recipe_class in (EncoderRecipe, GANRecipe) else ()
    )
    own = {field.name for field in dataclasses.fields(recipe_class)} - set(inherited)
    assert own <= described, f"{recipe_class.__name__} does not describe {own - described}"
    assert recipe_table(recipe_class, prefix) in (ROOT / "scripts" / "README.md").read_text()


def commands():
    """Script and arguments of every command in the READMEs that runs one of this project."""
    for readme in READMES:
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", readme.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.split(" #")[0]
                if found := re.search(r"scripts/(\w+)\.py(.*)", command):
                    yield pytest.param(found[1], found[2].split(), id=f"{readme.relative_to(ROOT)}: {command.strip()}")


def recipe_files():
    """Name, as its first line says, and text of every recipe in the READMEs."""
    for readme in READMES:
        for text in re.findall(r"```yaml\n(.*?)```", readme.read_text(), re.S):
            named = re.match(r"# (\S+\.yaml)\n", text)
            yield named[1] if named else "nameless.yaml", text


@functools.cache
def help_of(script, *kinds):
    """What `--help` shows; in a process of its own, each would take seconds of imports."""
    spec = importlib.util.spec_from_file_location(f"script_{script}", ROOT / "scripts" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit) as stopped:
        module.main([*kinds, "--help"])
    assert stopped.value.code == 0
    return shown.getvalue()


@pytest.mark.parametrize(("script", "arguments"), list(commands()))
def test_commands_name_options_that_exist(script, arguments):
    kinds = [argument for argument in arguments[:1] if re.fullmatch("[a-z]+", argument)]  # of a script with several
    shown = help_of(script, *kinds)
    for argument in arguments:
        if argument.startswith("--"):
            assert re.search(rf"(^|[\s\[]){argument}\b", shown), f"{script}.py knows no {argument}"


@pytest.mark.parametrize(
    ("script", "arguments"), [command for command in commands() if "--recipe" in command.values[1]]
)
def test_commands_name_recipes_that_load(script, arguments, tmp_path):
    name = arguments[arguments.index("--recipe") + 1]
    for file, text in recipe_files():
        (tmp_path / file).write_text(text)
    overrides = [argument for argument in arguments if re.match(r"[a-z_.]+=", argument)]
    load_recipe(str(tmp_path / name) if name.endswith(".yaml") else name, RECIPES, overrides)


@pytest.mark.parametrize(("name", "text"), list(recipe_files()))
def test_recipes_in_the_readmes_load(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    load_recipe(str(tmp_path / name), RECIPES)


def test_fine_tuning_goes_from_one_phase_to_the_next(tmp_path):
    folders = {}
    for command in commands():
        recipe, output = (re.search(rf"{option} (\S+)", command.id) for option in ("--recipe", "--output-dir"))
        if recipe and recipe[1].endswith(".yaml"):
            folders[recipe[1]] = output[1]
    for name, text in recipe_files():
        (tmp_path / name).write_text(text)
    first, second = (load_recipe(str(tmp_path / name), RECIPES) for name in folders)
    assert (first.phase, second.phase) == ("encoders", "gan") and first.init_from and second.init_from
    encoders, gan = folders.values()
    assert second.encoders == f"{encoders}/model" and gan != encoders


def test_every_script_has_a_row_in_their_table():
    text = (ROOT / "scripts" / "README.md").read_text()
    assert {path.name for path in (ROOT / "scripts").glob("*.py")} == set(re.findall(r"^\| `(\w+\.py)` \|", text, re.M))


def test_the_readme_is_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_what_the_readmes_point_to_is_there():
    lacking = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in READMES
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        if "://" not in link and not (path.parent / link).exists()
    ]
    assert not lacking
