"""Statistics and Frechet distances against numpy, scipy, closed forms, recordings and
torchmetrics."""

import warnings

import numpy as np
import pytest
import torch
from golden.weights import Golden, feature_rows
from scipy.linalg import sqrtm
from torch import multiprocessing
from torch.testing import assert_close
from torchmetrics.image.fid import FrechetInceptionDistance

from t2i_supcon.metrics import (
    FeatureStatistics,
    StatisticsAccumulator,
    class_frechet_distance,
    feature_statistics,
    frechet_bias,
    frechet_distance,
)

RECORDED = {  # name: seeds, rows and width
    "n50_d8": ((20240, 20241), (50, 50), 8),
    "n300_d64": ((20242, 20243), (300, 200), 64),
    "n3000_d192": ((20244, 20245), (3000, 2500), 192),
    "n100_d256": ((20246, 20247), (100, 120), 256),
    "n500_d2048": ((20248, 20249), (500, 400), 2048),
    "n20_d1": ((20250, 20251), (20, 30), 1),
}


def gaussian(mean, covariance):
    return FeatureStatistics(np.asarray(mean, float), np.asarray(covariance, float), 10)


def recorded_rows(case):
    seeds, rows, width = RECORDED[case]
    return [feature_rows(seed, n, width, shift) for seed, n, shift in zip(seeds, rows, (0.25, 0.35))]


def as_stored(statistics):
    """What a file keeps of them: no rows."""
    return statistics._replace(root=None)


def test_statistics_equal_numpys():
    x = np.random.default_rng(0).normal(size=(50, 4))
    statistics = feature_statistics(x.astype(np.float32))
    assert np.allclose(statistics.mean, x.mean(0), atol=1e-6) and np.allclose(
        statistics.covariance, np.cov(x.T), atol=1e-6
    )
    assert statistics.count == 50


def test_numpy_and_tensors_of_any_precision_give_the_same():
    x = torch.randn(20, 5).bfloat16()
    a, b = feature_statistics(x.requires_grad_()), feature_statistics(x.detach().double().numpy())
    assert (a.mean == b.mean).all() and (a.covariance == b.covariance).all() and a.covariance.dtype == np.float64


def test_distance_of_diagonal_gaussians_is_known():
    # |m|^2 + sum (s_a - s_b)^2
    assert frechet_distance(gaussian([0, 0], np.diag([4, 9])), gaussian([3, 4], np.diag([1, 25]))) == pytest.approx(
        25 + 1 + 4
    )


@pytest.mark.parametrize("rank", [6, 3])
def test_distance_equals_the_matrix_root(rank):
    rng = np.random.default_rng(1)
    a, b = (feature_statistics(rng.normal(size=(40, rank)) @ rng.normal(size=(rank, 6))) for _ in range(2))
    root = sqrtm(a.covariance @ b.covariance + 1e-12 * np.eye(6)).real
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


@pytest.mark.parametrize("case", RECORDED)
def test_distances_equal_the_recorded_ones(case):
    """By every route: features alone, statistics with rows known on both sides, on one, on none."""
    expected = Golden("metrics_frechet").outputs[f"{case}.frechet"].item()
    assert frechet_distance(*recorded_rows(case)) == pytest.approx(expected, rel=1e-11)
    a, b = map(feature_statistics, recorded_rows(case))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-11)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-11)
    for one, other in ((as_stored(a), b), (a, as_stored(b)), (as_stored(a), as_stored(b))):
        assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-7)


def test_distances_equal_torchmetrics():
    a, b = recorded_rows("n300_d64")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.nn.Flatten()
        network.num_features = a.shape[1]
        reference = FrechetInceptionDistance(feature=network, input_img_size=(1, 1, 64))
        reference.set_dtype(torch.float64)
        reference.update(a[:, None, None], real=True)
        reference.update(b[:, None, None], real=False)
    assert frechet_distance(a, b) == pytest.approx(reference.compute().item(), rel=1e-6)


@pytest.mark.parametrize(("n", "width"), [(30, 5), (12, 40)])
def test_distance_to_itself_is_zero(n, width):
    a = feature_statistics(np.random.default_rng(2).normal(size=(n, width)))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(as_stored(a), as_stored(a)) == pytest.approx(0, abs=1e-6)


def test_duplicates_change_only_the_counts():
    a, b = recorded_rows("n50_d8")
    twice = feature_statistics(torch.cat([a, a]))
    ratio = 2 * 49 / 99  # of the covariances: sums of squares over N - 1
    expected = feature_statistics(a)
    assert_close(twice.covariance, ratio * expected.covariance)
    assert frechet_distance(twice, b) == pytest.approx(
        frechet_distance(FeatureStatistics(expected.mean, ratio * expected.covariance), feature_statistics(b))
    )


def test_features_that_are_constant_on_one_side_have_no_root_to_miss():
    """A singular covariance: the distance is |m|^2 plus the other's trace."""
    x = np.random.default_rng(3).normal(size=(40, 3))
    constant = np.tile([1.0, 2.0, 3.0], (10, 1))
    a = feature_statistics(x)
    expected = np.square(a.mean - [1, 2, 3]).sum() + np.trace(a.covariance)
    assert frechet_distance(a, feature_statistics(constant)) == pytest.approx(expected)
    assert frechet_distance(feature_statistics(constant), a) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [np.zeros((1, 3)), np.zeros(3), np.full((4, 2), np.nan)])
def test_bad_features_are_refused(bad):
    with pytest.raises(ValueError, match="features"):
        feature_statistics(bad)


def test_other_widths_and_protocols_are_refused():
    with pytest.raises(ValueError, match="3 wide, the other's 2"):
        frechet_distance(np.random.rand(5, 3), np.random.rand(5, 2))
    x = np.random.rand(5, 3)
    a = feature_statistics(x, {"network": "inception-fid", "resize": "tf1"})
    with pytest.raises(ValueError, match="resize is 'tf1' on one side and 'clean' on the other"):
        frechet_distance(a, feature_statistics(x, {"network": "inception-fid", "resize": "clean"}))
    with pytest.raises(ValueError, match="network is 'inception-fid' on one side and None"):
        frechet_distance(a, feature_statistics(x, {}))
    assert frechet_distance(a, feature_statistics(x)) == pytest.approx(0, abs=1e-9)  # of a file that does not tell


class TestAccumulator:
    def test_batches_give_the_statistics_of_all(self):
        x = 1000 + np.random.default_rng(4).normal(size=(57, 6))
        accumulator, other = StatisticsAccumulator({"network": "a"}), StatisticsAccumulator({"network": "a"})
        for batch in (x[:1], x[1:20]):
            accumulator.add(batch)
        other.add(x[20:])
        accumulator.merge(other)
        accumulator.merge(StatisticsAccumulator({"network": "a"}))  # of a process that had no images
        found, expected = accumulator.statistics(), feature_statistics(x)
        assert_close(found.mean, expected.mean, rtol=1e-14, atol=0)
        assert_close(found.covariance, expected.covariance, rtol=1e-11, atol=1e-13)
        assert (found.count, found.protocol) == (57, {"network": "a"})

    def test_what_does_not_fit_is_refused(self):
        accumulator = StatisticsAccumulator({"resize": "tf1"})
        accumulator.add(np.zeros((1, 3)))
        with pytest.raises(ValueError, match="seen 1 vectors; statistics need at least 2"):
            accumulator.statistics()
        with pytest.raises(ValueError, match="features are 2 wide; those before were 3 wide"):
            accumulator.add(np.zeros((1, 2)))
        with pytest.raises(ValueError, match="features hold NaN"):
            accumulator.add(np.full((1, 3), np.inf))
        with pytest.raises(ValueError, match="resize is 'tf1' on one side and 'clean'"):
            accumulator.merge(StatisticsAccumulator({"resize": "clean"}))
        assert accumulator.count == 1

    def test_processes_end_with_the_sums_of_all(self, tmp_path):
        """Two real processes, each with its share of the rows."""
        x = np.random.default_rng(5).normal(size=(9, 3))
        multiprocessing.start_processes(share_rows, (x, tmp_path), nprocs=2, start_method="fork")  # quick
        expected = feature_statistics(x)
        for rank in range(2):
            found = FeatureStatistics.load(tmp_path / f"{rank}.npz")
            assert found.count == 9
            assert_close(found.mean, expected.mean)
            assert_close(found.covariance, expected.covariance)


def share_rows(rank, x, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    accumulator = StatisticsAccumulator()
    accumulator.add(x[:4] if rank == 0 else x[4:])
    accumulator.merge_processes()
    accumulator.save(folder / f"{rank}.npz")
    torch.distributed.destroy_process_group()


class TestFiles:
    def test_come_back_as_they_were(self, tmp_path):
        saved = feature_statistics(np.random.rand(9, 4), {"network": "inception-fid", "input_size": 299})
        saved.save(tmp_path / "real.npz")
        loaded = FeatureStatistics.load(tmp_path / "real.npz")
        assert (loaded.mean == saved.mean).all() and (loaded.covariance == saved.covariance).all()
        assert (loaded.count, loaded.protocol) == (9, {"network": "inception-fid", "input_size": 299})

    def test_protocols_are_compared_as_files_keep_them(self, tmp_path):
        saved = feature_statistics(np.random.rand(9, 4), {"size": (64, 64), "scales": {"low": 1}})
        saved.save(tmp_path / "real.npz")
        loaded = FeatureStatistics.load(tmp_path / "real.npz")
        assert frechet_distance(loaded, saved) == pytest.approx(0, abs=1e-9)
        with pytest.raises(ValueError, match=r"size is \[64, 64\] on one side and \[64, 32\] on the other"):
            frechet_distance(loaded, saved._replace(protocol={"size": (64, 32), "scales": {"low": 1}}))

    def test_are_those_of_pytorch_fid(self, tmp_path):
        mean, covariance = np.arange(3.0), np.eye(3)
        np.savez(tmp_path / "theirs.npz", mu=mean, sigma=covariance)
        theirs = FeatureStatistics.load(tmp_path / "theirs.npz")
        assert (theirs.count, theirs.protocol) == (None, None)
        theirs.save(tmp_path / "ours.npz")
        with np.load(tmp_path / "ours.npz") as file:
            assert (file["mu"] == mean).all() and (file["sigma"] == covariance).all()

    def test_of_another_kind_are_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            FeatureStatistics.load(tmp_path / "missing.npz")
        (tmp_path / "text.npz").write_text("no statistics")
        np.savez(tmp_path / "other.npz", features=np.eye(2))
        np.save(tmp_path / "array.npy", np.eye(2))
        np.savez(tmp_path / "pickled.npz", mu=np.array([None]), sigma=np.eye(1))
        np.savez(tmp_path / "protocol.npz", mu=np.zeros(1), sigma=np.eye(1), protocol=np.array("[1]"))
        for name in ("text.npz", "other.npz", "array.npy", "pickled.npz", "protocol.npz"):
            with pytest.raises(ValueError, match=f"{name} holds no feature statistics"):
                FeatureStatistics.load(tmp_path / name)
        np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.eye(2))
        with pytest.raises(ValueError, match=r"mu has shape \(3,\) and sigma \(2, 2\)"):
            FeatureStatistics.load(tmp_path / "shapes.npz")
        np.savez(tmp_path / "nan.npz", mu=np.zeros(2), sigma=np.full((2, 2), np.nan))
        with pytest.raises(ValueError, match="holds NaN"):
            FeatureStatistics.load(tmp_path / "nan.npz")


@pytest.mark.parametrize(
    ("n", "m", "width", "error"), [(400, 250, 16, 0.03), (300, 300, 128, 0.03), (60, 80, 128, 0.08)]
)
def test_bias_is_the_mean_distance_of_samples_of_one_gaussian(n, m, width, error):
    """Many drawn pairs, with variances that fall as 1/k."""
    rng = np.random.default_rng(6)
    scales = np.sqrt(1 / np.arange(1, width + 1))
    distances = [frechet_distance(*(rng.normal(size=(rows, width)) * scales for rows in (n, m))) for _ in range(60)]
    truth = FeatureStatistics(np.zeros(width), np.diag(scales**2))
    assert frechet_bias(truth, n, m) == pytest.approx(np.mean(distances), rel=error)
    with pytest.raises(ValueError, match="1 and 80 vectors"):
        frechet_bias(truth, 1, 80)


class TestWithinClasses:
    CASES = {"d6": ((20740, 20741), (120, 150), 6, 10), "d32": ((20742, 20743), (90, 80), 32, 8)}
    CASES["d512"] = ((20744, 20745), (60, 66), 512, 2)

    @pytest.mark.parametrize("case", CASES)
    def test_distances_equal_the_recorded_ones(self, case):
        golden = Golden("metrics_class_frechet")
        seeds, rows, width, at_least = self.CASES[case]
        labels = [golden.inputs[f"{case}.labels_{side}"] for side in "ab"]
        features = [
            feature_rows(seed, n, width, shift) + 0.2 * own[:, None].double()
            for seed, n, shift, own in zip(seeds, rows, (0.25, 0.35), labels)
        ]
        mean, per_class, classes = class_frechet_distance(features[0], labels[0], features[1], labels[1], at_least)
        assert list(per_class) == golden.outputs[f"{case}.classes"].tolist() and classes == len(per_class)
        assert list(per_class.values()) == pytest.approx(golden.outputs[f"{case}.per_class"].tolist(), rel=1e-9)
        assert mean == pytest.approx(golden.outputs[f"{case}.mean"].item(), rel=1e-9)

    def test_too_few_rows_are_refused(self):
        x, labels = np.random.rand(6, 2), np.array([0, 0, 1, 1, 2, 2])
        with pytest.raises(ValueError, match="no class has 3 rows on both sides, among 3 real and 3 generated"):
            class_frechet_distance(x, labels, x, labels, at_least=3)
        with pytest.raises(ValueError, match="at_least is 1"):
            class_frechet_distance(x, labels, x, labels, at_least=1)
        with pytest.raises(ValueError, match=r"generated_labels have shape \(5,\); expected \(6,\)"):
            class_frechet_distance(x, labels, x, labels[:5], at_least=2)
