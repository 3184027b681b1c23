"""Errors of the libraries become one line."""

import logging
import pickle

import pytest

from t2i_supcon.conversion.errors import one_line_errors


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("size\n  mismatch"), "^model x: .*another kind: RuntimeError: size mismatch$"),
        (ValueError("no\tmodel"), "^model x: .*another kind: no model$"),
        (OSError("cannot reach https://huggingface.co/me/x"), "^model x: .*nothing was loaded from the Hub"),
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


def test_interruptions_pass_and_loggers_are_as_they_were():
    logger = logging.getLogger("transformers.modeling_utils")
    before = logger.level
    with pytest.raises(KeyboardInterrupt), one_line_errors("model x"):
        assert not logger.isEnabledFor(logging.ERROR)
        raise KeyboardInterrupt
    assert logger.level == before
