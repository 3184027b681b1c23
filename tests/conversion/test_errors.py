"""Errors of the libraries become one line."""

import json
import logging
import pickle
import re

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from t2i_supcon import AttnGANForTextToImage, embedded_model
from t2i_supcon.conversion.errors import one_line_errors
from t2i_supcon.conversion.pretrained import load_pretrained
from t2i_supcon.models.weights import refuse_unfit_weights


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("size\n  mismatch"), "^model x: .*another kind: RuntimeError: size mismatch$"),
        (ValueError("no\tmodel"), "^model x: .*another kind: no model$"),
        (OSError("no disk"), "^model x: .*another kind: no disk$"),
        (pickle.UnpicklingError("run me with weights_only=False"), "^model x: its file of weights holds more than"),
        (ValueError("long " * 1000), "^model x: "),
    ],
)
def test_errors_are_one_line_that_says_where(error, message):
    with pytest.raises(ValueError, match=message) as found, one_line_errors("model x"):
        raise error
    text = str(found.value)
    assert found.value.__cause__ is error
    assert "\n" not in text and len(text) < 600 and "weights_only" not in text


def test_errors_of_the_hub_are_explained(hub):
    message = "^model x: there is no such folder, and there is no model repository 'me/none' on "
    with pytest.raises(ValueError, match=message) as found, one_line_errors("model x", "me/none"):
        HfApi().model_info("me/none")
    assert isinstance(found.value.__cause__, RepositoryNotFoundError) and "\n" not in str(found.value)


def test_mistakes_of_this_package_stay_tracebacks():
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'state_dict'"), one_line_errors("x"):
        refuse_unfit_weights(None, [], "x")
    with pytest.raises(ValueError, match="^x: missing, damaged or of another kind: TypeError"):
        with one_line_errors("x"):
            json.dumps(None, cls=0)  # raised by a library


def test_interruptions_pass_and_loggers_are_as_they_were():
    logger = logging.getLogger("transformers.modeling_utils")
    before = logger.level
    with pytest.raises(KeyboardInterrupt), one_line_errors("model x"):
        assert not logger.isEnabledFor(logging.ERROR)
        raise KeyboardInterrupt
    assert logger.level == before


def test_loading_a_whole_model_says_nothing_of_its_tensors(capfd):
    """The library lists the layers it has not sharded, wherever its other messages are quiet."""
    load_pretrained(str(embedded_model()), "model", (AttnGANForTextToImage,))
    assert not re.search("shard|generator|weight(?!s:)", capfd.readouterr().err)
