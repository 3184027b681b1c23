"""The DAMSM towers against the authors' code."""

import pytest
import torch
from golden.weights import Golden, stats
from torch.testing import assert_close

from t2i_supcon.conversion import CONVERSIONS, load_original, rename
from t2i_supcon.models import (
    DAMSMConfig,
    DAMSMImageConfig,
    DAMSMImageEncoder,
    DAMSMModel,
    DAMSMTextConfig,
    DAMSMTextEncoder,
)


def test_text_encoder_equals_the_original():
    golden = Golden("damsm_text_encoder")
    model = load_original("damsm", "text_encoder", golden.weights)
    lengths = golden.inputs["cap_lens"]
    longest = int(lengths.max())
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    out = model(golden.inputs["captions"][:, :longest], mask)
    assert_close(out.word_embs.transpose(1, 2), golden.outputs["words_emb"], atol=1e-5, rtol=1e-4)
    assert_close(out.sent_emb, golden.outputs["sent_emb"], atol=1e-5, rtol=1e-4)
    loss = out.word_embs.square().sum() + out.sent_emb.pow(3).sum()
    assert_close(loss, golden.outputs["probe_loss"], rtol=1e-4, atol=0)
    loss.backward()
    parameters = dict(model.named_parameters())
    names = [rename(key, CONVERSIONS["damsm", "text_encoder"].rules) for key in golden.weights]
    assert_close(
        stats(parameters[name].grad for name in names), golden.outputs["param_grad_stats"], rtol=1e-4, atol=1e-3
    )


def test_text_encoder_accepts_any_order_of_lengths():
    model = DAMSMTextEncoder(DAMSMTextConfig(vocab_size=20, embedding_dim=5, hidden_size=6)).eval()
    ids = torch.randint(1, 20, (4, 5))
    lengths = torch.tensor([2, 5, 1, 3])
    mask = (torch.arange(5)[None] < lengths[:, None]).long()
    together = model(ids, mask)
    for row, length in enumerate(lengths.tolist()):
        alone = model(ids[row : row + 1, :length])
        assert_close(together.sent_emb[row], alone.sent_emb[0])
        assert_close(together.word_embs[row, :length], alone.word_embs[0])
        assert (together.word_embs[row, length:] == 0).all()


def test_text_encoder_refuses_an_empty_caption():
    model = DAMSMTextEncoder(DAMSMTextConfig(vocab_size=20, embedding_dim=5, hidden_size=6))
    with pytest.raises(ValueError, match="no word"):
        model(torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 0], [0, 0, 0]]))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_image_encoder_equals_the_original(align_corners, mode):
    golden = Golden(f"damsm_image_encoder_align_{str(align_corners).lower()}")
    model = load_original("damsm", "image_encoder", golden.weights, align_corners=align_corners).train(mode == "train")
    small = golden.inputs["img_lo"].requires_grad_()
    out = model(golden.image("img_lo", 4))
    assert_close(out.region_feats, golden.outputs[f"{mode}.features"], atol=2e-4, rtol=1e-4)
    assert_close(out.image_emb, golden.outputs[f"{mode}.code"], atol=2e-4, rtol=1e-4)
    (out.region_feats.square().mean() + out.image_emb.square().mean()).backward()
    expected = golden.outputs[f"{mode}.grad.emb_features"]
    assert_close(model.region_head.weight.grad, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    expected = golden.outputs[f"{mode}.grad_img_lo"]
    error = float((small.grad - expected).norm() / expected.norm())
    # BatchNorm over two images is ill-conditioned: even float64 differs from float32 by 0.12 here,
    # one thread from two by 0.015
    assert error < (1e-4 if mode == "eval" else 0.2)
    if mode == "train":
        buffers = model.state_dict()
        names = [
            rename(key, CONVERSIONS["damsm", "image_encoder"].rules) for key in golden.weights if "running_" in key
        ]
        assert_close(
            stats(buffers[name] for name in names), golden.outputs["train.running_stats_after"], rtol=1e-4, atol=1e-3
        )


def test_image_encoder_resizes_any_input():
    model = DAMSMImageEncoder(DAMSMImageConfig(hidden_size=8, image_size=75, channel_divisor=16)).eval()
    out = model(torch.randn(2, 3, 40, 60))
    assert out.image_emb.shape == (2, 8)
    assert out.region_feats.shape == (2, 8, 3, 3)


def test_published_sizes_have_the_published_parameter_counts():
    with torch.device("meta"):
        text, image = DAMSMTextEncoder(DAMSMTextConfig()), DAMSMImageEncoder(DAMSMImageConfig())
    assert sum(p.numel() for p in text.parameters()) == 2_075_320
    assert sum(p.numel() for p in image.parameters()) == 22_506_720
    assert sum(p.numel() for p in image.trunk.parameters()) == 21_785_568


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DAMSMTextConfig(hidden_size=7), "hidden_size is 7"),
        (lambda: DAMSMImageConfig(image_size=64), "image_size is 64"),
        (lambda: DAMSMImageConfig(channel_divisor=3), "channel_divisor is 3"),
        (
            lambda: DAMSMConfig(text_config={"hidden_size": 4}, image_config={"hidden_size": 6}),
            "4 but image_config.hidden_size is 6",
        ),
    ],
)
def test_impossible_sizes_are_refused(make, message):
    with pytest.raises(Exception, match=message):
        make()


def test_words_and_heads_start_uniform_and_are_restored_so(tmp_path):
    sizes = {"text_config": {"vocab_size": 50, "embedding_dim": 16, "hidden_size": 8}}
    model = DAMSMModel(DAMSMConfig(**sizes, image_config={"hidden_size": 8, "image_size": 75, "channel_divisor": 16}))
    drawn = ("text_encoder.embedding.weight", "image_encoder.region_head.weight", "image_encoder.image_head.weight")
    model.save_pretrained(
        tmp_path, state_dict={key: value for key, value in model.state_dict().items() if key not in drawn}
    )
    loaded, info = DAMSMModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == set(drawn)
    for state in (model.state_dict(), loaded.state_dict()):
        for key in drawn:
            assert 0.09 < state[key].abs().max() <= 0.1 and abs(state[key].std() - 0.2 / 12**0.5) < 0.006
