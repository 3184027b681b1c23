"""A number together with all that it depends on: what is written to `evaluation.json`."""

import datetime
import importlib.metadata
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .measures import MEASURES

FILE = "evaluation.json"
PACKAGES = ("t2i_supcon", "torch", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class Protocol:
    """All that must agree before two evaluations are compared.

    Attributes:
        features: network, sha256 of its weights, input size and resize, as a `FeatureNetwork` says.
        data: name of the data, as the evaluation was told it.
        data_hash: of all captions, labels and boxes of its rows and of some of their images; see
            `content_hash`.
        split: that the real images and the captions come from.
        real, generated: numbers of images.
        image_size: side in pixels that both were compared at.
        captions: "first", "random" or "all" of a row.
        seed: of captions and noise; None for pictures that came from a folder.
        truncation: bound of the noise, None without one.
        settings: of the metrics, by their names.
        encoders: the network that captions were read by, as `features`; None where that is the
            same.
    """

    features: Mapping[str, object]
    data: str
    data_hash: str
    split: str
    real: int
    generated: int
    image_size: int
    captions: str
    seed: int | None
    truncation: float | None
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    encoders: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        values: numbers by name, such as "frechet" or "frechet.bias".
        yardstick: the same numbers of real training images in place of generated ones.
        protocol: how.
        subject: what was judged: name, kind and hash of the model or folder, and the recipe it was
            trained by where that is known.
        made: versions of the packages and the date.
        errors: standard errors of `values` over pictures, where they were asked for.
    """

    values: Mapping[str, float]
    yardstick: Mapping[str, float]
    protocol: Protocol
    subject: Mapping[str, object]
    made: Mapping[str, object] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes JSON; the file is complete or as it was."""
        partial = path.with_name(f".partial-{path.name}")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no evaluation.
        """
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}; scripts/evaluate.py writes one for a model or pictures")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            for name in ("values", "yardstick", "subject"):
                if not isinstance(content[name], dict):
                    raise TypeError(f"{name} is no mapping")
            return cls(**{**content, "protocol": Protocol(**content["protocol"])})
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} holds no evaluation of this package ({type(error).__name__}: {error})") from error


def made_now() -> dict[str, object]:
    """Versions of the packages that a number depends on, and the date."""
    versions = {name: _version(name) for name in PACKAGES}
    return {"versions": versions, "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # this one, found by its path alone
        return "not installed"


def check_comparable(evaluations: Mapping[str, Evaluation]) -> None:
    """Refuses numbers that were measured in different ways. What only one of them measured may be
    measured in any way.

    Raises:
        ValueError: names the first field of the protocol that differs, with both values.
    """
    (first_name, first), *others = evaluations.items()
    for name, other in others:
        ours, theirs = asdict(first.protocol), asdict(other.protocol)
        both = ours["settings"].keys() & theirs["settings"].keys()
        for protocol in (ours, theirs):
            protocol["settings"] = {name: protocol["settings"][name] for name in sorted(both)}
        for one, other in zip(ours["settings"].values(), theirs["settings"].values()):
            if ("training" in one) != ("training" in other):  # which older evaluations do not say
                (one if "training" in one else other).pop("training")
        for key in ours:
            if key in ("data", "seed"):  # data is compared by its hash; seeds are what is averaged over
                continue
            if key == "encoders" and not any("sentences" in MEASURES[name].needs for name in both & MEASURES.keys()):
                continue
            if ours[key] != theirs[key]:
                raise ValueError(
                    f"{first_name} and {name} cannot be compared: {key} is {ours[key]} in the first and {theirs[key]} "
                    "in the second; evaluate both in the same way"
                )
