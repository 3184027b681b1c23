"""Imports run one way: a lower layer never imports a higher one, and no GAN file another."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "t2i_supcon"
ALLOWED = {
    "losses": {"losses"},
    "metrics": {"metrics"},
    "metrics/features": {"models", "conversion", "hub"},
    "metrics/space": {"metrics"},
    "metrics/modules": {"metrics", "evaluation"},
    "models": {"models", "hub"},
    "data": {"data", "hub"},
    "embedded": set(),
    "processes": set(),
    "memory": set(),
    "contrast": {"losses", "metrics", "processes"},
    "label_pairs": {"data", "processes"},
    "figures": set(),
    "files": set(),
    "hub": {"cards"},
    "cards": set(),
    "publishing": {"cards", "conversion", "data", "hub", "models"},
    "identity": {"cards", "data"},
    "gallery": {"pipeline", "figures", "files", "models", "data"},
    "conversion": {"conversion", "models", "data", "files", "hub"},
    "export": {"models", "data", "conversion", "files"},
    "pipeline": {"models", "data", "conversion", "export"},
    "evaluation": {
        "evaluation",
        "metrics",
        "models",
        "data",
        "conversion",
        "files",
        "figures",
        "identity",
        "memory",
        "pipeline",
    },
    "training": {
        "training",
        "cards",
        "hub",
        "publishing",
        "losses",
        "metrics",
        "models",
        "data",
        "conversion",
        "evaluation",
        "figures",
        "files",
        "identity",
        "contrast",
        "memory",
        "processes",
    },
}
PURE = (
    *("torch", "numpy", "typing", "collections", "contextlib", "dataclasses", "functools", "json", "math", "pathlib"),
    *("zipfile", "zlib", "t2i_supcon"),
)
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py" and path.read_text().strip())


def imported(path):
    """Dotted names of all modules a file imports; relative ones resolved."""
    parts = ("t2i_supcon", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level]) if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            yield from (f"{module}.{alias.name}" for alias in node.names) if not node.module else [module]


def layer(path):
    relative = path.relative_to(PACKAGE).with_suffix("").as_posix()
    if relative.startswith("metrics/") and relative.count("/") == 2:  # one folder per module of `evaluate`
        return "metrics/modules"
    return relative if relative in ALLOWED else relative.split("/")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    allowed = ALLOWED[layer(path)]
    for name in imported(path):
        if name.startswith("t2i_supcon."):
            assert name.split(".")[1] in allowed, f"{path.name} imports {name}"
        if name.split(".")[0] == "accelerate":
            assert layer(path) == "training" or path.name == "evaluate.py", f"{path.name} imports accelerate"
        if layer(path) in ("losses", "metrics"):
            assert name.split(".")[0] in PURE, f"{path.name} imports {name}"


def test_no_gan_imports_another():
    from t2i_supcon.models import GANS

    for name in GANS:
        found = {module.rsplit(".", 1)[-1] for module in imported(PACKAGE / "models" / f"{name}.py")}
        assert not found & (set(GANS) - {name})


def test_scripts_hold_no_logic():
    """A script reads arguments and calls the package: it defines `main` alone, trains and computes
    nothing, and loops over words or files only to hand them on."""
    for path in (PACKAGE.parent / "scripts").glob("*.py"):
        tree = ast.parse(path.read_text())
        functions = [node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        assert functions == ["main"], f"{path.name} defines {functions}"
        loops = [node for node in ast.walk(tree) if isinstance(node, (ast.While, ast.With, ast.Lambda))]
        assert not loops, f"{path.name}, line {loops[0].lineno}: this belongs into the package"
        branches = [node for node in ast.walk(tree) if isinstance(node, (ast.If, ast.For))]
        assert len(branches) <= 6, f"{path.name} has {len(branches)} branches and loops"


def test_every_file_of_the_package_has_a_test_file():
    """`evaluate` loads each folder in metrics by its path: test_modules and test_space run over all
    of them."""
    tests = PACKAGE.parent / "tests"
    own = [path for path in FILES if path.name != "__init__.py" and layer(path) != "metrics/modules"]
    relative = [path.relative_to(PACKAGE) for path in own]
    lacking = [str(path) for path in relative if not (tests / path.parent / f"test_{path.name}").is_file()]
    assert not lacking, f"without a test file: {', '.join(lacking)}"
