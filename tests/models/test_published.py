"""All networks at the published widths, in the published files' names, against the authors'
code."""

import gc
import json

import pytest
import torch
from golden.authors import mixed_up_softmax
from golden.weights import FOLDER, Golden
from torch.testing import assert_close

from t2i_supcon.conversion import load_original
from t2i_supcon.models import stacked


@pytest.fixture(autouse=True)
def no_gradients_and_little_memory():
    with torch.no_grad():
        yield
    gc.collect()


def joint_features(model, channels):
    """Catches the image features that a discriminator joins with the sentence."""
    caught = []
    model.joint.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0][:, :channels]))
    return caught


def test_damsm():
    golden = Golden("published_damsm_bird")
    text = load_original("damsm", "text_encoder", golden.part("text/"))
    lengths = golden.inputs["cap_lens"]
    mask = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()
    out = text(golden.inputs["captions"][:, : mask.shape[1]], mask)
    assert_close(out.word_embs.transpose(1, 2), golden.outputs["words_emb"], atol=1e-5, rtol=1e-4)
    assert_close(out.sent_emb, golden.outputs["sent_emb"], atol=1e-5, rtol=1e-4)
    image = load_original("damsm", "image_encoder", golden.part("image/"), align_corners=False)
    out = image(golden.image("img_lo", 4))
    assert_close(out.region_feats, golden.outputs["features"], atol=2e-4, rtol=1e-4)
    assert_close(out.image_emb, golden.outputs["code"], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("arch", ["attngan", "dmgan"])
def test_stacked_generators(arch, monkeypatch):
    monkeypatch.setattr(stacked, "masked_softmax", mixed_up_softmax)
    golden = Golden(f"published_{arch}_bird")
    model = load_original(arch, "generator", golden.part("G/"))
    words = golden.inputs["words_embs"].transpose(1, 2)
    out = model(
        golden.inputs["z"], golden.inputs["sent_emb"], words, (~golden.inputs["mask"]).long(), golden.inputs["eps"]
    )
    for image, name, stride in zip(out.images, ("img0", "img1_s2", "img2_s4"), (1, 2, 4), strict=True):
        assert_close(image[..., ::stride, ::stride], golden.outputs[name], atol=2e-4, rtol=0)
    for attention, name, stride in zip(out.attentions, ("att0_s4", "att1_s8"), (4, 8), strict=True):
        assert_close(attention[..., ::stride, ::stride], golden.outputs[name], atol=2e-4, rtol=0)
    assert_close(out.mu, golden.outputs["mu"])
    assert_close(out.logvar, golden.outputs["logvar"])


@pytest.mark.parametrize("scale", range(3))
@pytest.mark.parametrize("arch", ["attngan", "dmgan"])
def test_scale_discriminators(arch, scale):
    golden = Golden(f"published_{arch}_bird")
    model = load_original(arch, f"discriminator{64 << scale}", golden.part(f"D{scale}/"))
    image = golden.image("real_lo", 1 << scale)
    features = golden.outputs[f"D{scale}.features"]
    assert_close(model.narrow(model.down(image)), features, rtol=1e-4, atol=1e-4 * float(features.abs().max()))
    out = model(image, golden.inputs["sent_emb"])
    assert_close(torch.sigmoid(out.cond[0]), golden.outputs[f"D{scale}.cond"], atol=1e-5, rtol=0)
    assert_close(torch.sigmoid(out.uncond[0]), golden.outputs[f"D{scale}.uncond"], atol=1e-5, rtol=0)


def test_ssagan():
    golden = Golden("published_ssagan")
    out = load_original("ssagan", "generator", golden.part("G/"))(golden.inputs["z"], golden.inputs["sent_emb"])
    assert_close(out.images[0][..., ::4, ::4], golden.outputs["img_s4"], atol=2e-4, rtol=0)
    for number, name, stride in ((0, "mask4", 1), (4, "mask64_s2", 2), (6, "mask256_s8", 8)):
        assert_close(out.masks[number][..., ::stride, ::stride], golden.outputs[name], atol=2e-4, rtol=0)
    model = load_original("ssagan", "discriminator", golden.part("D/"))
    caught = joint_features(model, 1024)
    logits = model(golden.image("real_lo", 4), golden.inputs["sent_emb"]).cond[0]
    assert_close(
        caught[0], golden.outputs["D_features"], rtol=1e-4, atol=1e-4 * float(golden.outputs["D_features"].abs().max())
    )
    assert_close(logits, golden.outputs["D_logits"].flatten(), atol=2e-4, rtol=1e-4)


def test_galip():
    golden = Golden("published_galip")
    clip = golden.part("clip/")
    unused = ("visual.proj", "visual.ln_post.weight", "visual.ln_post.bias")
    tower = {
        f"mapping.CLIP_ViT.{key[7:]}": value
        for key, value in clip.items()
        if key.startswith("visual.") and key not in unused
    }
    image = load_original("galip", "generator", golden.part("G/") | tower)(
        golden.inputs["z"], golden.inputs["sent_emb"]
    ).images[0]
    bound = float(golden.outputs["img_s4"].abs().max())
    assert_close(image[..., ::4, ::4] / bound, golden.outputs["img_s4"] / bound, atol=2e-5, rtol=0)
    pair = load_original("galip", "clip", clip)
    assert_close(
        pair.text_encoder(golden.inputs["tokens"]).sent_emb, golden.outputs["clip_sent_emb"], atol=1e-4, rtol=1e-4
    )
    seen = pair.image_encoder(golden.image("real_lo", 4))
    assert_close(seen.local_feats[:, :, :64], golden.outputs["clip_feats_first64"], atol=1e-4, rtol=1e-4)
    assert_close(seen.image_emb, golden.outputs["clip_img_emb"], atol=1e-4, rtol=1e-4)
    state = {
        f"net{key.replace('/', '.')}": value
        for part in "DC"
        for key, value in golden.weights.items()
        if key.startswith(f"{part}/")
    }
    model = load_original("galip", "discriminator", state)
    caught = joint_features(model, 512)
    logits = model(seen.local_feats, golden.inputs["sent_emb"]).cond[0]
    features = golden.outputs["D_out_first64"]
    assert_close(caught[0][:, :64], features, rtol=1e-4, atol=1e-4 * float(features.abs().max()))
    assert_close(
        logits, golden.outputs["logits"].flatten(), rtol=1e-4, atol=1e-4 * float(golden.outputs["logits"].abs().max())
    )


COCO_ELEMENTS = {  # parameters and buffers of each original
    "damsm text_encoder": 8_629_420,
    "attngan generator": 13_811_456 + 55_891,
    "attngan discriminator64": 13_304_450 + 4_228,
    "attngan discriminator128": 42_800_258 + 8_838,
    "attngan discriminator256": 160_774_274 + 18_056,
    "dmgan generator": 22_335_314 + 74_515,
    "dmgan discriminator64": 1_887_218,
    "dmgan discriminator128": 5_174_258,
    "dmgan discriminator256": 18_301_938,
}


def test_names_and_shapes_of_the_files_for_coco():
    files = json.loads((FOLDER / "published_coco_keys.json").read_text())
    assert files.keys() == COCO_ELEMENTS.keys()
    for network, shapes in files.items():
        with torch.device("meta"):
            original = {key: torch.empty(shape) for key, shape in shapes.items()}
            model = load_original(*network.split(), original)  # refuses what does not fit
        assert sum(value.numel() for value in model.state_dict().values()) == COCO_ELEMENTS[network], network
