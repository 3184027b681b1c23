"""Inception and CLIP scores against recordings, closed forms and torchmetrics."""

import warnings

import numpy as np
import pytest
import torch
from golden.weights import Golden
from torchmetrics.image.inception import InceptionScore

from t2i_supcon.metrics import clip_score, inception_score

RECORDED = {  # name: seed, rows, classes and splits
    "n50_c10": (20440, 50, 10, 10),
    "n57_c20": (20441, 57, 20, 10),
    "n1000_c1008": (20442, 1000, 1008, 10),
    "n500_c50": (20443, 500, 50, 1),
}


def recorded_logits(case):
    seed, n, classes, _ = RECORDED[case]
    return 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


class TestInceptionScore:
    @pytest.mark.parametrize("case", RECORDED)
    def test_equals_the_recorded_one(self, case):
        recorded = Golden("metrics_inception_score").outputs
        mean, std = inception_score(recorded_logits(case), splits=RECORDED[case][-1])
        assert mean == pytest.approx(recorded[f"{case}.mean"].item(), rel=1e-12)
        assert std == pytest.approx(recorded[f"{case}.std"].item(), rel=1e-10, abs=1e-12)

    def test_rows_count_in_their_order(self):
        recorded = Golden("metrics_inception_score").outputs["n57_c20.shuffled_mean"].item()
        logits = recorded_logits("n57_c20")
        shuffled = logits[np.random.RandomState(2020).permutation(len(logits))]
        assert inception_score(shuffled)[0] == pytest.approx(recorded, rel=1e-12)
        assert inception_score(logits)[0] != pytest.approx(recorded, rel=1e-3)

    def test_equals_torchmetrics(self):
        logits = recorded_logits("n500_c50").double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = InceptionScore(feature=torch.nn.Flatten(), splits=1)
            reference.update(logits[:, None, None])
            expected = reference.compute()[0].item()
        assert inception_score(logits, splits=1)[0] == pytest.approx(expected, rel=1e-6)

    def test_certain_and_even_predictions_score_the_number_of_classes(self):
        logits = 1000 * torch.eye(5).repeat(4, 1)  # so certain that the others' probability is 0 in float64
        assert inception_score(logits, splits=2) == pytest.approx((5, 0))
        assert inception_score(torch.ones(20, 5), splits=2) == pytest.approx((1, 0))
        assert inception_score(1000 * torch.eye(5)[torch.zeros(20, dtype=int)], splits=2) == pytest.approx((1, 0))

    def test_fewer_rows_than_splits_are_refused(self):
        with pytest.raises(ValueError, match="splits is 10; it must lie between 1 and the number of rows, 9"):
            inception_score(np.zeros((9, 3)))


class TestCLIPScore:
    @pytest.mark.parametrize("case", ["n40_d16", "n200_d64"])
    def test_equals_the_recorded_one(self, case):
        golden = Golden("metrics_retrieval")
        images, texts = golden.inputs[f"{case}.image_emb"], golden.inputs[f"{case}.sent_emb"]
        assert clip_score(images, texts) == pytest.approx(golden.outputs[f"{case}.mean_cosine"].item(), rel=1e-6)
        flipped = images.clone()
        flipped[::3] *= -1
        recorded = golden.outputs[f"{case}.third_flipped.mean_cosine"].item()
        assert clip_score(flipped, texts) == pytest.approx(recorded, rel=1e-6)

    def test_bad_embeddings_are_refused(self):
        with pytest.raises(ValueError, match="text_emb hold NaN"):
            clip_score(np.ones((2, 3)), np.full((2, 3), np.nan))
        with pytest.raises(ValueError, match=r"image_emb have shape \(2, 3\) and text_emb \(2, 4\)"):
            clip_score(np.ones((2, 3)), np.ones((2, 4)))
