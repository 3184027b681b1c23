"""Imports run one way: a lower layer never imports a higher one, and no GAN file another."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "t2i_supcon"
ALLOWED = {
    "losses": {"losses"},
    "metrics/statistics": set(),
    "models": {"models"},
    "data": {"data"},
    "figures": set(),
    "files": set(),
    "conversion": {"models"},
    "original_files": {"models", "data", "files", "conversion"},
    "pipeline": {"models", "data"},
    "training": {"training", "losses", "metrics", "models", "data", "figures", "files", "original_files"},
}
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
    return relative if relative in ALLOWED else relative.split("/")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    allowed = ALLOWED[layer(path)]
    for name in imported(path):
        if name.startswith("t2i_supcon."):
            assert name.split(".")[1] in allowed, f"{path.name} imports {name}"
        if name.split(".")[0] == "accelerate":
            assert layer(path) == "training", f"{path.name} imports accelerate"
        if layer(path) in ("losses", "metrics/statistics"):
            assert name.split(".")[0] in ("torch", "numpy", "typing", "t2i_supcon"), f"{path.name} imports {name}"


def test_no_gan_imports_another():
    from t2i_supcon.models import GANS

    for name in GANS:
        found = {module.rsplit(".", 1)[-1] for module in imported(PACKAGE / "models" / f"{name}.py")}
        assert not found & (set(GANS) - {name})


def test_scripts_stay_thin():
    for path in (PACKAGE.parent / "scripts").glob("*.py"):
        if path.name == "benchmark.py":  # it holds the plain procedures that it times the package against
            continue
        assert len(path.read_text().splitlines()) <= 60, path.name
