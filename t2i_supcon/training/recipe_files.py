"""The YAML files of recipes: found by name, read strictly, laid over their bases.

YAML is read by the rules of its version 1.2 for numbers: `010` and `1:30`, which version 1.1 takes
for octal and base 60, are none, and neither is `2026-11-25` a date. A key that stands twice is an
error.
"""

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import yaml

from ..data.tokenization import shortened

MAX_DEPTH = 20  # of nested mappings and lists
MAX_NODES = 10_000  # with every alias written out
MAX_BYTES = 1_000_000


class _StrictLoader(yaml.SafeLoader):
    """Plain values only; refuses keys that stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1 and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)$")
FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
_OF_VERSION_1_1 = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OF_VERSION_1_1]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))


def _construct_integer(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    try:
        return int(text.replace("_", ""), 0)
    except ValueError as error:  # of more digits than Python reads, or marked as one with !!int
        raise yaml.constructor.ConstructorError(
            None, None, f"{shortened(text)} is no integer", node.start_mark
        ) from error


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _construct_integer)


def find_recipe(name: str, folders: Iterable[Path | None], kind: str = "recipe") -> Path:
    """The file of a recipe, or of a suite: a path that ends in .yaml, or a name in one of the
    folders.

    Raises:
        FileNotFoundError: there is none; lists the names there are.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        with suppress(OSError):  # from a name that is longer than any
            if Path(name).is_file():
                return Path(name)
        raise FileNotFoundError(f"there is no {kind} file {shortened(name)}")
    known = sorted({path.stem for folder in folders if folder is not None for path in folder.glob("*.yaml")})
    for folder in folders:
        if name in known and folder is not None and (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise FileNotFoundError(
        f"there is no {kind} {shortened(name)!r}{hint(name, known)}; give a .yaml file or one of: {', '.join(known)}"
    )


def read_with_bases(path: Path, folder: Path | None, above: tuple[Path, ...] = ()) -> dict:
    """The plain values of a recipe file, laid over those of the bases that it names.

    Args:
        folder: of the named recipes.
        above: files whose base this one is.

    Raises:
        ValueError: the file is no YAML mapping, or names itself as a base.
    """
    if path.resolve() in above:
        raise ValueError(f"{path}: this recipe is its own base, by way of {' -> '.join(p.name for p in above)}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size:,} bytes: this is no recipe")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error})") from error
    values = read_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a recipe is a mapping of fields to values")
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ValueError(f"{path}: base is {shortened(base)!r}; it must be the name or the path of one recipe")
    beside = path.parent / base
    found = beside if beside.suffix in (".yaml", ".yml") and beside.is_file() else None
    found = found or find_recipe(base, (path.parent, folder))
    return merge_recipes(read_with_bases(found, folder, (*above, path.resolve())), values)


def read_yaml(text: str, where: str):
    """Plain values of YAML text.

    Raises:
        ValueError: no YAML, a key that stands twice, or nesting and aliases beyond any recipe.
    """
    try:
        _check_depth(text, where)
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _expanded_size(node, {}) > MAX_NODES:
                raise ValueError(f"{where} has more than {MAX_NODES:,} values once its aliases are written out")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not valid YAML: {shortened(' '.join(str(error).split()), 300)}") from error


def _check_depth(text: str, where: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"{where} is nested more than {MAX_DEPTH} deep: this is no recipe")


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for; one that several aliases name counts each time."""
    if id(node) not in sizes:
        sizes[id(node)] = MAX_NODES + 1  # what a node that contains itself finds
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            inside = [value for pair in node.value for value in pair]
        sizes[id(node)] = 1 + sum(_expanded_size(value, sizes) for value in inside)
    return sizes[id(node)]


def merge_recipes(base: dict, changes: dict) -> dict:
    """Lays `changes` over `base`, mapping by mapping; a null stays one."""
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_recipes(merged[key], value) if nested else value
    return merged


def hint(name: str, known: Iterable[str]) -> str:
    """A question after a misspelt name."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
