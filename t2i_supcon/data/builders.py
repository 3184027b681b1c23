"""The kinds of data that can be prepared: one file each, which owns its command line."""

import argparse
from pathlib import Path
from typing import Protocol

from . import coco, cub, emoji, folder
from .shards import Source


class Builder(Protocol):
    """What the file of a kind of data offers.

    Attributes:
        HELP: what it prepares, in a line of the command's help.
    """

    HELP: str

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds the options that only this kind of data has."""

    @staticmethod
    def read(options: argparse.Namespace, work: Path) -> Source:
        """Reads the files that the options name; `work` is a folder for temporary files."""


BUILDERS: dict[str, Builder] = {
    "cub": cub,
    "coco": coco,
    "emoji": emoji,
    "folder": folder,
}
