"""Mean and covariance of feature vectors, and the Frechet distance between them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .arrays import Array, as_labels, as_rows, as_two_sets, reading


class FeatureStatistics(NamedTuple):
    """What the Frechet distance needs to know of a set of vectors.

    Attributes:
        mean: (D,).
        covariance: (D, D), of the unbiased kind: divided by N - 1.
        count: N, the number of vectors; None for files that do not tell.
        protocol: how the vectors were made (network, hash of its weights, resizing ...); None if
            unknown. Statistics of two protocols are never compared.
        root: (N, D) with root^T root = covariance, kept where N < D: the distance is then cheaper
            and exact.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None
    protocol: Mapping[str, object] | None = None
    root: np.ndarray | None = None

    def save(self, path: str | Path) -> None:
        """Writes an `.npz` with `mu` and `sigma`, as pytorch-fid reads them, `count` and
        `protocol` (JSON)."""
        arrays = {"mu": self.mean, "sigma": self.covariance}
        if self.count is not None:
            arrays["count"] = np.asarray(self.count)
        if self.protocol is not None:
            arrays["protocol"] = np.asarray(json.dumps(dict(self.protocol), sort_keys=True))
        with open(path, "wb") as file:  # numpy would add .npz to another name
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "FeatureStatistics":
        """Reads what `save` or pytorch-fid wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no statistics.
        """
        expected = "feature statistics: expected an .npz with mu and sigma"
        with reading(path, expected), np.load(path, allow_pickle=False) as file:
            mean, covariance = file["mu"].astype(np.float64), file["sigma"].astype(np.float64)
            count = int(file["count"]) if "count" in file else None
            protocol = dict(json.loads(str(file["protocol"]))) if "protocol" in file else None
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                f"{path}: mu has shape {mean.shape} and sigma {covariance.shape}; expected (D,) and (D, D)"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError(f"{path}: mu or sigma holds NaN or infinity")
        return cls(mean, covariance, count, protocol)


def feature_statistics(features: Array, protocol: Mapping[str, object] | None = None) -> FeatureStatistics:
    """Statistics of (N, D) features.

    Raises:
        ValueError: fewer than two vectors, or values that are not finite.
    """
    features = as_rows(features, "features")
    n, width = features.shape
    mean, root = _centre(features)
    return FeatureStatistics(mean, root.T @ root, n, protocol, root if n < width else None)


class StatisticsAccumulator:
    """Statistics of vectors that come in batches; memory does not grow with their number.

    Each batch is centred on its own mean before the sums are merged (Chan et al., 1983), so that
    large means cost no digits.

    Args:
        protocol: see `FeatureStatistics`.
    """

    def __init__(self, protocol: Mapping[str, object] | None = None):
        self.protocol = protocol
        self.count = 0
        self.mean = np.zeros(0)
        self.scatter = np.zeros((0, 0))  # sum of outer products around the mean

    def add(self, features: Array) -> None:
        """Adds a batch (B, D), B >= 1.

        Raises:
            ValueError: no rows, values that are not finite, or another width than before.
        """
        features = as_rows(features, "features", at_least=1)
        mean = features.mean(axis=0)
        centred = features - mean
        self._join(len(features), mean, centred.T @ centred)

    def merge(self, other: "StatisticsAccumulator") -> None:
        """Adds what another accumulator has seen.

        Raises:
            ValueError: another width or protocol.
        """
        check_same_protocol(self.protocol, other.protocol)
        if other.count:
            self._join(other.count, other.mean, other.scatter)

    def merge_processes(self) -> None:
        """Adds what all processes of `torch.distributed` have seen, in the order of their ranks;
        afterwards each has the same sums. Does nothing where there is one process.

        Raises:
            ValueError: widths or protocols that differ.
        """
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        parts: list[StatisticsAccumulator] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self)
        total = StatisticsAccumulator(self.protocol)
        for part in parts:
            total.merge(part)
        self.count, self.mean, self.scatter = total.count, total.mean, total.scatter

    def statistics(self) -> FeatureStatistics:
        """The statistics of all that was added.

        Raises:
            ValueError: fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"the accumulator has seen {self.count} vectors; statistics need at least 2")
        return FeatureStatistics(self.mean, self.scatter / (self.count - 1), self.count, self.protocol)

    def save(self, path: str | Path) -> None:
        """Writes the statistics, see `FeatureStatistics.save`."""
        self.statistics().save(path)

    def _join(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if not self.count:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        if len(mean) != len(self.mean):
            raise ValueError(f"features are {len(mean)} wide; those before were {len(self.mean)} wide")
        total = self.count + count
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(shift, shift * (self.count * count / total))
        self.mean = self.mean + shift * (count / total)
        self.count = total


def check_same_protocol(a: Mapping[str, object] | None, b: Mapping[str, object] | None) -> None:
    """Features of two protocols are not comparable; an unknown one (None) passes.

    Raises:
        ValueError: names the first field that differs, and both values.
    """
    if a is None or b is None:
        return
    a, b = (json.loads(json.dumps(dict(protocol))) for protocol in (a, b))  # as files keep them: tuples are lists
    for field in sorted(a.keys() | b.keys()):
        if a.get(field) != b.get(field):
            raise ValueError(
                f"these features were made in two ways: {field} is {a.get(field)!r} on one side and "
                f"{b.get(field)!r} on the other; make both with one network and one resizing"
            )


def frechet_distance(a: FeatureStatistics | Array, b: FeatureStatistics | Array) -> float:
    """Squared Frechet distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))
    (Heusel et al., arXiv 1706.08500, eq. 6).

    With C = R^T R on both sides, the trace of the root is the sum of the singular values of
    R_a R_b^T: no square root is taken of what rounding left of a zero. Not clamped: a set compared
    with itself gives zero up to rounding, of either sign. It grows as the sets shrink, see
    `frechet_bias`.

    Args:
        a, b: statistics, or the (N, D) features themselves.

    Raises:
        ValueError: statistics of two widths or of two protocols.
    """
    a, b = (x if isinstance(x, FeatureStatistics) else as_rows(x, "features") for x in (a, b))
    if _is_low_rank(a) and _is_low_rank(b) and a.shape[1] == b.shape[1]:
        return _low_rank_distance(a, b)
    a, b = (x if isinstance(x, FeatureStatistics) else feature_statistics(x) for x in (a, b))
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"one side's features are {len(a.mean)} wide, the other's {len(b.mean)}; both must come from one network"
        )
    check_same_protocol(a.protocol, b.protocol)
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return float(np.square(a.mean - b.mean).sum() + traces - 2 * _trace_of_root(a, b))


def _is_low_rank(x: FeatureStatistics | np.ndarray) -> bool:
    """Whether these are features, of fewer rows than columns."""
    return isinstance(x, np.ndarray) and len(x) < x.shape[1]


def _low_rank_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of features, of which no covariance is needed: it would be far larger than they
    are where few rows make a set, as the pictures of a class."""
    (mean_a, root_a), (mean_b, root_b) = map(_centre, (a, b))
    traces = np.square(root_a).sum() + np.square(root_b).sum()
    return float(np.square(mean_a - mean_b).sum() + traces - 2 * _nuclear_norm(root_a, root_b))


def _centre(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and root (N, D) with root^T root = covariance."""
    mean = features.mean(axis=0)
    return mean, (features - mean) / np.sqrt(len(features) - 1)


def _trace_of_root(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """tr (C_a C_b)^(1/2)."""
    if a.root is not None and b.root is not None:
        return _nuclear_norm(a.root, b.root)
    if b.root is not None:
        a, b = b, a
    root = _root(a)
    return np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root.T).clip(min=0)).sum()


def _nuclear_norm(root_a: np.ndarray, root_b: np.ndarray) -> float:
    """The sum of the singular values of R_a R_b^T. torch's LAPACK needs a quarter less time than
    numpy's."""
    return torch.linalg.svdvals(torch.from_numpy(root_a) @ torch.from_numpy(root_b).T).sum().item()


def _root(a: FeatureStatistics) -> np.ndarray:
    """(r, D) with root^T root = C."""
    if a.root is not None:
        return a.root
    if a.count is None or a.count > len(a.mean):
        try:
            return np.linalg.cholesky(a.covariance).T  # a fifth of the eigenvectors' cost
        except np.linalg.LinAlgError:
            pass  # a singular covariance, for instance of a feature that is always zero
    values, vectors = np.linalg.eigh(a.covariance)
    rank = len(values) if a.count is None else min(len(values), a.count - 1)
    kept = slice(len(values) - rank, None)  # the others are zero but for rounding
    return (vectors[:, kept] * np.sqrt(values[kept].clip(min=0))).T


def frechet_bias(statistics: FeatureStatistics, count_a: int, count_b: int) -> float:
    """How far two samples of one and the same Gaussian lie apart on average: what a Frechet
    distance owes to the numbers of images alone.

    To first order in 1/N, (1/N_a + 1/N_b) * (tr C + sum_ij l_i l_j / (2 (l_i + l_j)) + tr C / 4)
    with the eigenvalues l of C: the first term is the means', the others are the expectation of the
    second derivative of the distance under the Wishart law of sample covariances. Far fewer
    rows than features make it somewhat too large.

    Args:
        statistics: of the larger set; those of few vectors know too few directions and give too
            small a bias.
        count_a, count_b: vectors on both sides, each at least 2.

    Raises:
        ValueError: a count below 2.
    """
    if min(count_a, count_b) < 2:
        raise ValueError(f"the sets have {count_a} and {count_b} vectors; statistics need at least 2")
    values = np.linalg.eigvalsh(statistics.covariance)
    values = values[values > values[-1] * 1e-12]
    pairs = (values[:, None] * values / (values[:, None] + values)).sum()
    return float((1 / count_a + 1 / count_b) * (1.25 * values.sum() + pairs / 2))


class ClassFrechetDistance(NamedTuple):
    """The distances within classes.

    Attributes:
        mean: plain mean over the classes counted.
        per_class: distance by label.
        classes: how many classes had enough rows on both sides.
    """

    mean: float
    per_class: dict[int, float]
    classes: int


def class_frechet_distance(
    real: Array, real_labels: Array, generated: Array, generated_labels: Array, at_least: int
) -> ClassFrechetDistance:
    """Frechet distance within each class that has at least `at_least` rows on both sides, and the
    plain mean over these classes (intra-FID; Miyato and Koyama, arXiv 1802.05637, section 6.1).

    With few rows a class the bias of the distance outweighs it: compare only values of equal counts
    per class.

    Args:
        real, generated: (N, D) and (M, D).
        real_labels, generated_labels: (N,) and (M,) integers.
        at_least: rows that a class needs on both sides, 2 or more.

    Raises:
        ValueError: no class has that many rows, or labels that do not fit the rows.
    """
    if at_least < 2:
        raise ValueError(f"at_least is {at_least}; the statistics of a class need at least 2 rows")
    real, generated = as_two_sets(real, generated, ("real features", "generated features"))
    real_labels = as_labels(real_labels, len(real), "real_labels")
    generated_labels = as_labels(generated_labels, len(generated), "generated_labels")
    per_class = {}
    for label in np.intersect1d(real_labels, generated_labels):
        sides = real[real_labels == label], generated[generated_labels == label]
        if min(map(len, sides)) >= at_least:
            per_class[label.item()] = frechet_distance(*sides)
    if not per_class:
        raise ValueError(
            f"no class has {at_least} rows on both sides, among {len(np.unique(real_labels))} real and "
            f"{len(np.unique(generated_labels))} generated classes; lower at_least or draw more images"
        )
    return ClassFrechetDistance(float(np.mean(list(per_class.values()))), per_class, len(per_class))
