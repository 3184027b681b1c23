"""The original authors' tensors as models of this package."""

import re

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from . import damsm, dfgan, galip, ssagan, stacked
from .rules import State, rename

FAMILIES = (damsm, stacked, dfgan, ssagan, galip)  # the one table of the files of rules
CONVERSIONS = {key: conversion for family in FAMILIES for key, conversion in family.CONVERSIONS.items()}
NOT_IN_OLD_FILES = ("num_batches_tracked", "pixel_mean", "pixel_std")


def load_original(arch: str, part: str, state_dict: State, **known: object) -> PreTrainedModel:
    """Makes a model of an original state dict.

    Args:
        arch: a GAN's name in `GANS`, or "damsm".
        part: "text_encoder" or "image_encoder" (of any arch trained with DAMSM), "clip" (both
            towers of OpenAI's file), "generator", "discriminator" (SSA-GAN; DF-GAN and GALIP:
            their two networks in one dict, keys `netD.*` and `netC.*`), "discriminator64",
            "discriminator128" or "discriminator256" (AttnGAN and DM-GAN: one scale).
        state_dict: the original's tensors by name, with or without the `module.` that DataParallel
            puts before each.
        known: config fields that shapes cannot tell, such as `align_corners` of the image encoder,
            or the attention heads of a CLIP tower as `image_config={"num_attention_heads": 12}`;
            published values when absent.

    Returns:
        The model in evaluation mode, every tensor loaded. Constants that the files never hold, and
        `num_batches_tracked`, which those of
        old torch versions lack, may be missing.

    Raises:
        ValueError: an arch and part that do not exist, sizes that no such network has, or tensors
            that are missing, left over, of another shape, whole numbers, NaN or infinite, each of
            them named.
    """
    if part in ("text_encoder", "image_encoder"):
        arch = "damsm"
    elif part == "clip":
        arch = "galip"
    if (arch, part) not in CONVERSIONS:
        raise ValueError(
            f"there is no conversion of {arch!r} {part!r}; known are "
            f"{', '.join(' '.join(pair) for pair in CONVERSIONS)}"
        )
    conversion = CONVERSIONS[arch, part]
    original = {re.sub(r"^(net[CD]\.)?module\.", r"\1", key): value for key, value in state_dict.items()}
    try:
        config = conversion.config(original, **known)
        unpacked = conversion.unpack(original)
    except KeyError as error:
        raise ValueError(
            f"this is no {arch} {part}: its tensor {error} is missing; found {', '.join(list(original)[:5])}, ..."
        ) from error
    except (RuntimeError, StrictDataclassError, ZeroDivisionError) as error:  # sizes that contradict each other
        raise ValueError(f"this is no {arch} {part}: {' '.join(str(error).split())}") from error
    model = conversion.model_class(config)
    renamed = {rename(key, conversion.rules): value for key, value in unpacked.items()}
    renamed = {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in renamed.items()}
    own = model.state_dict()
    for key, value in own.items():
        if key.endswith(NOT_IN_OLD_FILES):
            renamed.setdefault(key, value)
    problems = [f"missing: {key}" for key in own if key not in renamed] + [
        f"left over: {key}" for key in renamed if key not in own
    ]
    problems += [
        f"{key} has shape {tuple(renamed[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in renamed and renamed[key].shape != own[key].shape
    ]
    for key, value in own.items():
        if key in renamed and value.is_floating_point():
            found = renamed[key]
            if not found.is_floating_point():
                problems.append(f"{key} holds {found.dtype}, not real numbers")
            elif not found.is_meta and not found.isfinite().all():
                problems.append(f"{key} holds NaN or infinity")
    if problems:
        raise ValueError(f"the file does not fit {arch} {part}:\n  " + "\n  ".join(problems))
    model.load_state_dict(renamed)
    return model.eval()
