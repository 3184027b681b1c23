"""Files in place of arrays: those of the vectors and statistics that they hold."""

import numpy as np
import pytest
from metrics.test_modules import GENERATED, REAL, load

from t2i_supcon import metrics
from t2i_supcon.metrics import feature_statistics
from t2i_supcon.metrics.sources import rows_of, statistics_of


def test_files_count_as_what_they_hold(tmp_path):
    np.save(tmp_path / "generated.npy", GENERATED)
    np.savez(tmp_path / "real.npz", features=REAL)
    feature_statistics(REAL).save(tmp_path / "statistics.npz")
    expected = metrics.frechet_distance(GENERATED, REAL)
    for reference in ("real.npz", "statistics.npz"):
        found = load("frechet").compute(
            predictions=[str(tmp_path / "generated.npy")], reference=str(tmp_path / reference)
        )
        assert found == {"frechet": pytest.approx(expected)}
    found = load("kid").compute(predictions=[str(tmp_path / "generated.npy")], reference=str(tmp_path / "real.npz"))
    assert found["kid"] == metrics.kernel_distance(REAL, GENERATED)[0]


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        rows_of(str(tmp_path / "missing.npy"))
    with pytest.raises(FileNotFoundError):
        statistics_of(str(tmp_path / "missing.npz"))
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "other.npz", x=REAL)
    np.save(tmp_path / "array.npz", REAL)
    (tmp_path / "array.npz.npy").rename(tmp_path / "array.npz")
    np.savez(tmp_path / "whole.npz", features=REAL)
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    np.savez_compressed(tmp_path / "damaged.npz", features=REAL)
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[300:400] = bytes(100)
    (tmp_path / "damaged.npz").write_bytes(content)
    for name in ("text.npy", "other.npz", "half.npz", "damaged.npz"):
        with pytest.raises(ValueError, match=f"{name} holds no vectors"):
            rows_of([str(tmp_path / name)])
    for name in ("array.npz", "half.npz"):
        with pytest.raises(ValueError, match=f"{name} holds no vectors"):
            statistics_of([str(tmp_path / name)])
