"""A small model to judge."""

import pytest
import torch
from conftest import CAPTIONS, tiny_config

from t2i_supcon.data import build_tokenizer
from t2i_supcon.models import GANS


@pytest.fixture
def model():
    tokenizer = build_tokenizer(CAPTIONS, max_words=6)
    torch.manual_seed(1)
    composite = GANS["attngan"].composite(tiny_config("attngan", len(tokenizer))).eval()
    return composite, tokenizer
