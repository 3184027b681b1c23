"""The Hub: its errors in one sentence each."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def split_revision(name: str) -> tuple[str, str | None]:
    """Repository and revision of "user/name@revision"; a name without one has None, and a folder
    keeps its whole path."""
    repository, separator, revision = str(name).partition("@")
    if not separator or Path(name).exists() or not NAME.fullmatch(repository):
        return str(name), None
    return repository, revision


def explain(error: BaseException, repository: str, revision: str | None = None, kind: str = "model") -> str | None:
    """Says in one sentence what went wrong with a repository of the Hub and what to do; None where
    the error is not of the Hub.

    The libraries often hide the cause: transformers and huggingface_hub alike answer a refused
    download with "check your connection". Here the chain of causes is walked to the first error
    with an answer of the server, or else to the first one of the connection.

    Args:
        error: as caught, from loading or from publishing.
        repository: such as "user/name".
        revision: branch, tag or commit that was asked for.
        kind: "model", "dataset" or "space".
    """
    chain = _chain(error)
    host = constants.ENDPOINT.split("://")[-1]
    what = f"{repository!r}" + ("" if revision is None else f" at revision {revision!r}")
    answered = next((one for one in chain if getattr(one, "response", None) is not None), None)
    if answered is not None:
        return _explain_answer(answered, repository, what, revision, kind, host)
    if any(isinstance(one, HFValidationError) for one in chain):
        return (
            f"{repository!r} is no name of a repository: such a name is user/name, of letters, digits, '-', '_' and '.'"
        )
    if constants.HF_HUB_OFFLINE and any(
        isinstance(one, (OfflineModeIsEnabled, LocalEntryNotFoundError)) for one in chain
    ):
        return (
            f"{what} is not downloaded (or not wholly), and offline mode is on: unset HF_HUB_OFFLINE, or "
            f"`hf download {repository}` where there is a network"
        )
    broken = next((one for one in chain if isinstance(one, HTTPError)), None)
    if broken is not None:
        reason = " ".join(str(broken).split())
        if type(broken).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"):
            return f"{host} cannot be reached for {what} ({reason:.120}): check the network, the proxy and HF_ENDPOINT"
        return f"the connection to {host} broke off at {what} ({reason:.120}): give the same command again"
    if any(isinstance(one, LocalEntryNotFoundError) for one in chain):
        return (
            f"{what} is not downloaded (or not wholly), and local_files_only asks for downloaded files alone: "
            f"leave it out, or `hf download {repository}` first"
        )
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those behind it, the outermost first."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


def _explain_answer(
    error: BaseException, repository: str, what: str, revision: str | None, kind: str, host: str
) -> str:
    status = error.response.status_code
    said = " ".join(str(getattr(error, "server_message", None) or "").split())
    said = f": {said:.200}" if said else ""
    page = f"{constants.ENDPOINT}/{'' if kind == 'model' else kind + 's/'}{repository}"
    if isinstance(error, GatedRepoError):
        return f"{repository!r} is gated: ask for access on {page}, then {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{repository!r} has no revision {revision!r}: name a branch, a tag or a whole commit id of {page}/commits"
        )
    if isinstance(error, EntryNotFoundError):
        file = str(error.response.request.url).rsplit("/resolve/", 1)[-1].partition("/")[2]
        return f"{what} has no file {file}: see {page}/tree/{revision or 'main'} for those it has"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no {kind} repository {repository!r} on {host} that you may see: check its name or, if it is "
            f"private, {LOG_IN}"
        )
    if status == 401:
        return f"{host} does not accept the token that was sent for {what}{said}: {LOG_IN}, with a token that is valid"
    if status == 403:
        return f"{host} refuses access to {what} (403{said}): the token lacks that right; {LOG_IN} as one who has it"
    if status == 404:
        return f"{host} knows nothing of {what} (404{said}): check the name and HF_ENDPOINT"
    if status == 409:
        return f"{what} is in the way on {host} (409{said}): choose another name"
    if status == 412:
        return f"{what} was changed on {host} by somebody else meanwhile (412{said}): give the same command again"
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        when = "later" if wait is None else f"in {wait} s"
        return f"{host} got too many requests and refuses those for {what} (429{said}): try again {when}"
    if status >= 500:
        return f"{host} has a fault of its own at {what} ({status}{said}): try again later"
    return f"{host} refuses {what} ({status}{said})"


@contextmanager
def explained(
    repository: str, revision: str | None = None, kind: str = "model", advice: str | None = None
) -> Iterator[None]:
    """Turns errors of the Hub inside the block into an OSError of one sentence, `advice` behind
    it; others pass."""
    try:
        yield
    except Exception as error:  # each library has classes of its own, few of them OSErrors
        sentence = explain(error, repository, revision, kind)
        if sentence is None:
            raise
        raise OSError(sentence if advice is None else f"{sentence}; {advice}") from error
