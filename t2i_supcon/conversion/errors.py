"""Libraries' errors about damaged and foreign files, in one line."""

import logging
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..hub import explain

PACKAGE = Path(__file__).parents[1]


LOGGERS = (
    "transformers.modeling_utils",
    "transformers.utils.loading_report",
    "transformers.distributed.tensor_parallel",  # lists all layers where the first of these is quiet
)


@contextmanager
def one_line_errors(where: str, name: str | None = None, revision: str | None = None) -> Iterator[None]:
    """Turns any error of the libraries, which answer damaged and foreign files with errors of many
    kinds, advice and tables, into a ValueError of one line that says what was being loaded.

    What this package itself raises, other than about values and files, is a mistake in it: that
    stays as it is, to be seen with its traceback.

    Args:
        where: what was being loaded, the first words of the line.
        name, revision: the folder or the repository of the Hub that it comes from.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:  # their lists of tensors repeat what the error says
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except pickle.UnpicklingError as error:  # torch's own words would advise to run what the file stores
        raise ValueError(f"{where}: its file of weights holds more than tensors, or is damaged") from error
    except Exception as error:
        if not isinstance(error, (ValueError, OSError)) and _is_own(error):
            raise
        text = " ".join(str(error).split())
        if name is not None and (of_the_hub := explain(error, name, revision)) is not None:
            raise ValueError(f"{where}: there is no such folder, and {of_the_hub}") from error
        if not isinstance(error, (ValueError, OSError)):
            text = f"{type(error).__name__}: {text}"
        raise ValueError(f"{where}: missing, damaged or of another kind: {text:.400}") from error
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _is_own(error: Exception) -> bool:
    """Whether a line of this package raised it, and not one of a library."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return Path(last).is_relative_to(PACKAGE)
