"""Errors and tests against scipy's, and against closed forms."""

import numpy as np
import pytest
from scipy import stats

from t2i_supcon.evaluation.significance import bootstrap_errors, sign_flip_test


@pytest.mark.parametrize("count", [2, 3, 8])
def test_sign_flips_are_those_of_scipys_permutation_test(count):
    differences = np.random.default_rng(count).normal(0.4, 1, count)
    expected = stats.permutation_test(
        (differences, np.zeros(count)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_test(differences) == pytest.approx(expected.pvalue)


def test_many_pairs_are_sampled_close_to_the_t_test():
    differences = np.random.default_rng(0).normal(0.3, 1, 40)
    assert sign_flip_test(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)
    assert sign_flip_test(differences) == sign_flip_test(differences)


def test_extremes():
    assert sign_flip_test([1.0, 2.0, 3.0]) == 0.25  # the least that three pairs can say
    assert sign_flip_test([0.0, 0.0]) == 1.0
    for wrong in ([], [np.nan]):
        with pytest.raises(ValueError, match="a paired test needs one or more finite numbers"):
            sign_flip_test(wrong)


def test_bootstrap_error_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(0, 2, 500)
    found = bootstrap_errors(lambda chosen: {"mean": values[chosen].mean()}, len(values), 2000)
    assert found["mean"] == pytest.approx(values.std() / 500**0.5, rel=0.05)
    with pytest.raises(ValueError, match="bootstrap is 1"):
        bootstrap_errors(lambda chosen: {"mean": 0.0}, 3, 1)
