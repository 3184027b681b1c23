"""The files the original authors published, read without running anything stored in them, as
repositories of this package."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..data import read_plain_pickle, word_tokenizer
from ..files import check_regular_file, new_folder
from ..models import GANS, DAMSMConfig, DAMSMModel
from .errors import one_line_errors
from .load import FAMILIES, load_original

ARCHS = {arch: files for family in FAMILIES for arch, files in family.FILES.items()}


def convert_files(
    arch: str,
    files: Mapping[str, Path],
    output: Path,
    max_words: int = 25,
    align_corners: bool | None = None,
    **known: dict,
) -> PreTrainedModel:
    """Turns an architecture's original files into one repository that loads, tokenizes with the
    published ids and draws.

    It holds the composite and its tokenizer, `discriminator/` where those files are given, and
    `encoders/` (image and text encoder together, to train around) where the image encoder or CLIP
    is. For "damsm" it is the encoders alone.

    Args:
        arch: a name of `ARCHS`.
        files: the file of each part that `ARCHS[arch]` names.
        output: folder to make.
        max_words: words of a prompt that are read; the authors evaluated with 25 (CUB) and 20
            (COCO).
        align_corners: of the image encoder's resize, where it is not that of the authors'
            repository.
        known: what a CLIP's shapes cannot tell where it is none of OpenAI's, as
            `image_config={"num_attention_heads": 4}`.

    Raises:
        FileExistsError: `output` exists.
        FileNotFoundError, ValueError: a file that is missing, not what it should be, or does not
            fit the others; nothing is written then.
    """
    _check_parts(arch, files)
    if output.exists():
        raise FileExistsError(f"{output} exists already; choose another output folder")
    if max_words < 1:
        raise ValueError(f"max_words is {max_words}; it must be at least 1")
    if align_corners is not None and "image_encoder" not in files:
        raise ValueError("align_corners is of the image encoder's resize, and no image encoder is given")
    states = {
        part: read_state_dict(path, part) for part, path in files.items() if part not in ("captions", "tokenizer")
    }
    if align_corners is None:
        align_corners = ARCHS[arch].align_corners
    if arch == "galip":
        encoders = load_original(arch, "clip", states["clip"], **known)
        configs = {
            "text_config": encoders.config.text_config.to_dict(),
            "image_config": encoders.config.image_config.to_dict(),
        }
        text_encoder = encoders.text_encoder
        with one_line_errors(f"tokenizer {str(files['tokenizer'])!r}"):
            tokenizer = AutoTokenizer.from_pretrained(files["tokenizer"])
        tokenizer.model_max_length = encoders.config.text_config.max_position_embeddings
    else:
        text_encoder = load_original(arch, "text_encoder", states["text_encoder"])
        configs = {"text_config": text_encoder.config.to_dict()}
        tokenizer = word_tokenizer(read_vocabulary(files["captions"]), max_words)
        encoders = None
        if "image_encoder" in states:
            image_encoder = load_original(arch, "image_encoder", states["image_encoder"], align_corners=align_corners)
            text_width, image_width = text_encoder.config.hidden_size, image_encoder.config.hidden_size
            if text_width != image_width:
                raise ValueError(
                    f"{files['text_encoder']} has width {text_width} but {files['image_encoder']} "
                    f"{image_width}: take two encoders trained together"
                )
            encoders = DAMSMModel(
                DAMSMConfig(text_config=configs["text_config"], image_config=image_encoder.config.to_dict())
            )
            encoders.text_encoder.load_state_dict(text_encoder.state_dict())
            encoders.image_encoder.load_state_dict(image_encoder.state_dict())
    _check_vocabulary(tokenizer, text_encoder.config.vocab_size, files)
    if arch == "damsm":
        with new_folder(output) as folder:
            _save(folder, encoders, tokenizer)
        return encoders.eval()

    judges = {
        part: load_original(arch, part, state, **configs)
        for part, state in states.items()
        if part.startswith("discriminator")
    }
    widths = {
        name: getattr(judge.config, name)
        for judge in judges.values()
        for name in ("discriminator_channels", "score_channels")
        if hasattr(judge.config, name)
    }
    generator = load_original(arch, "generator", states["generator"], **configs, **widths)
    composite = GANS[arch].composite(generator.config)
    composite.text_encoder.load_state_dict(text_encoder.state_dict())
    composite.generator.load_state_dict(generator.state_dict())
    with new_folder(output) as folder:
        _save(folder, composite, tokenizer)
        if ARCHS[arch].licence:
            (folder / "README.md").write_text(_card(arch))
        if judges:
            _join_discriminators(arch, generator.config, judges).save_pretrained(folder / "discriminator")
        if encoders is not None:
            _save(folder / "encoders", encoders, tokenizer)
    return composite.eval()


def read_state_dict(path: Path, part: str) -> dict[str, Tensor]:
    """Reads the tensors of one part from a published file: bare, below "model", or beside other
    networks in DF-GAN's and GALIP's training states.

    Raises:
        OSError: it cannot be read.
        ValueError: the file holds anything but tensors, or not this part.
    """
    check_regular_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of many kinds; torch's own words would advise to run what the file stores
        raise ValueError(
            f"{path}: it is no file of tensors alone, or a damaged one, and nothing else is read. Of a "
            "TorchScript archive that you trust, such as "
            "OpenAI's CLIP, save the tensors first: torch.save(torch.jit.load(PATH, 'cpu').state_dict(), NEW_PATH)"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if isinstance(content, Mapping) and isinstance(content.get("netG"), Mapping) and part == "generator":
        content = content["netG"]
    elif isinstance(content, Mapping) and isinstance(content.get("netD"), Mapping) and part == "discriminator":
        nets = {net: content[net] for net in ("netD", "netC") if isinstance(content.get(net), Mapping)}
        content = {f"{net}.{key}": value for net, state in nets.items() for key, value in state.items()}
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(type(k) is str and isinstance(v, Tensor) for k, v in content.items())
    ):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path}: it holds no state dict of a {part}; found {found}")
    for key, value in content.items():
        plain = value.layout is torch.strided and not value.is_meta and not value.is_nested
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{path}: {key} is no plain tensor with all of its numbers in the file")
    return dict(content)


def read_vocabulary(path: Path) -> dict[str, int]:
    """Reads AttnGAN's `captions.pickle`: [training captions, test captions, word of each id, id of
    each word].

    Returns:
        The id of each word, from 1 on; id 0 is the padding `<end>`.

    Raises:
        ValueError: the file is damaged, holds anything but lists, dicts, strings and ints, or its
            two tables disagree.
    """
    content = read_plain_pickle(path.read_bytes(), path)
    if not isinstance(content, list) or [type(entry) for entry in content] != [list, list, dict, dict]:
        raise ValueError(f"{path}: it is no captions.pickle; expected a list of two caption lists and two dicts")
    word_of, id_of = content[2:]
    pairs = [*word_of.items(), *((number, word) for word, number in id_of.items())]
    plain = all(type(number) is int and type(word) is str for number, word in pairs)
    if not plain or id_of != {word: number for number, word in word_of.items()}:
        raise ValueError(f"{path}: its tables of words and ids disagree")
    if sorted(word_of) != list(range(len(word_of))) or word_of.get(0) != "<end>":
        raise ValueError(f"{path}: its ids are not 0 (<end>), 1, 2, ... without a gap")
    return {word: number for word, number in id_of.items() if number > 0}


def _check_parts(arch: str, files: Mapping[str, Path]) -> None:
    if arch not in ARCHS:
        raise ValueError(f"arch is {arch!r}; it must be one of {', '.join(ARCHS)}")
    required, optional = ARCHS[arch].required, ARCHS[arch].optional
    missing = [part for part in required if part not in files]
    foreign = [part for part in files if part not in required + optional]
    if missing or foreign:
        problem = f"lacks the {missing[0]}" if missing else f"has no {foreign[0]}"
        raise ValueError(
            f"{arch} {problem}: it needs {', '.join(required)}"
            + (f"; it may have {', '.join(optional)}" if optional else "")
        )
    for part, path in files.items():
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        if part == "tokenizer" and not path.is_dir():
            raise NotADirectoryError(f"{path}: a tokenizer is a folder, and this is none")
        if part != "tokenizer":
            check_regular_file(path)


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, files: Mapping[str, Path]) -> None:
    if len(tokenizer) != rows:
        part = "captions" if "captions" in files else "tokenizer"
        raise ValueError(
            f"{files[part]} has {len(tokenizer)} words, but the text encoder was trained with {rows}: take "
            "the one published with this encoder"
        )


def _join_discriminators(arch: str, config, judges: dict[str, PreTrainedModel]) -> PreTrainedModel:
    """One network of all scales."""
    discriminator = GANS[arch].discriminator(config)
    if "discriminator" in judges:
        discriminator.load_state_dict(judges["discriminator"].state_dict())
        return discriminator
    needed = [f"discriminator{size}" for size in config.image_sizes]
    if sorted(judges) != sorted(needed):
        raise ValueError(f"this {arch} has the scales {', '.join(needed)}; given are {', '.join(judges)}")
    for scale, part in zip(discriminator.scales, needed, strict=True):
        for name in ("discriminator_channels", "single_scale"):
            own, expected = getattr(judges[part].config, name), getattr(config, name)
            if own != expected:
                raise ValueError(
                    f"the {part} has {name} {own}, but the other networks {expected}: take files of one training"
                )
        scale.load_state_dict(judges[part].state_dict())
    return discriminator


def _card(arch: str) -> str:
    """What a converted folder must say about weights whose use is restricted."""
    name, licence = GANS[arch].name, ARCHS[arch].licence
    return (
        f"---\nlicense: {licence}\npipeline_tag: text-to-image\nlibrary_name: t2i_supcon\n---\n"
        f"# {name}, converted\n\n"
        f"Weights that the authors of {name} published, under {licence.upper()}, for this package's own implementation "
        "of the network.\nWhatever is made of them is bound by that licence.\n"
    )


def _save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
