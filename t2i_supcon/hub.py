"""The Hub: its errors in one sentence each, and what is published there in one commit."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, snapshot_download
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

from .cards import CARD, Link, is_made, model_card

NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

# what a new version of a repository replaces: files that it has no more, such as shards of weights;
# weights in other folders than these are someone else's
REPLACED = {
    "model": ("model*.safetensors", "model.safetensors.index.json", "discriminator/*", "samples/*", "evaluation.*"),
    "dataset": ("*-?????-of-?????.parquet",),
    "space": (),
}
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "config.json")


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
            f"{repository!r} is no folder that is there, and no name of a repository: such a name is user/name, of "
            "letters, digits, '-', '_' and '.'"
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


def folder_files(folder: Path) -> dict[str, Path]:
    """The files of a folder by their paths in it, hidden ones excepted."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in paths.items() if not name.startswith(".") and "/." not in name}


def prepare_repository(repository: str) -> None:
    """Makes a model repository where there is none.

    Raises:
        OSError: the Hub cannot be reached or refuses; see `explain`.
    """
    _refuse_offline(repository)
    with explained(repository):
        HfApi().create_repo(repository, exist_ok=True)


def push_files(
    files: Mapping[str, Path | bytes],
    repository: str,
    kind: Literal["model", "dataset", "space"] = "model",
    *,
    private: bool | None = None,
    tag: str | None = None,
    move_tag: bool = False,
    message: str = "Upload with t2i_supcon",
    token: str | None = None,
    space_sdk: str | None = None,
    advice: str | None = None,
) -> str:
    """Publishes files in one commit, in a repository that is made where there is none, and then
    tags the commit: a tag exists for complete uploads only.

    Files that the repository has beyond these are removed where they belong to what is published
    (`REPLACED`); others there, such as one's own, stay.

    Args:
        files: by their paths in the repository.
        repository: "user/name".
        kind: of the repository.
        private: of a new repository; None is the default of the account.
        tag: of this version; one that is there already is refused before anything is sent or, with
        move_tag: taken from the version that had it.
        message: of the commit.
        token: in place of the one that was logged in with.
        space_sdk: of a new Space, such as "gradio".
        advice: what a failure leaves the user to do.

    Returns:
        The commit's id.

    Raises:
        OSError: the Hub cannot be reached or refuses; in one sentence, see `explain`.
        ValueError: a tag that is there already.
    """
    _refuse_offline(repository)
    api = HfApi(token=token)
    with explained(repository, kind=kind, advice=advice):
        api.create_repo(repository, repo_type=kind, private=private, exist_ok=True, space_sdk=space_sdk)
        tags = () if tag is None else api.list_repo_refs(repository, repo_type=kind).tags
        taken = tag in {known.name for known in tags}
        if taken and not move_tag:
            raise ValueError(f"{repository!r} has a tag {tag!r} already, and nothing was sent: choose another one")
        there = api.list_repo_files(repository, repo_type=kind)
        gone = [name for name in there if name not in files and _is_replaced(name, kind)]
        operations = [
            CommitOperationAdd(name, file if isinstance(file, bytes) else str(file)) for name, file in files.items()
        ]
        operations += [CommitOperationDelete(name) for name in gone]
        commit = api.create_commit(repository, operations, commit_message=message, repo_type=kind)
        if taken:
            api.delete_tag(repository, tag=tag, repo_type=kind)
        if tag is not None:
            api.create_tag(repository, tag=tag, revision=commit.oid, repo_type=kind)
    return commit.oid


def _is_replaced(name: str, kind: str) -> bool:
    """Whether a file belongs to what is published; a pattern's `*` ends at a slash here."""
    return any(fnmatch(name, one) and name.count("/") == one.count("/") for one in REPLACED[kind])


def _refuse_offline(repository: str) -> None:
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError(f"offline mode is on, and nothing was sent to {repository!r}: unset HF_HUB_OFFLINE")


def push_model(
    files: Mapping[str, Path],
    repository: str,
    encoders: str | None = None,
    links: Sequence[Link] = (),
    **options,
) -> str:
    """Publishes the files of a model with its card, which is made where there is none, or anew
    where the one there was made; see `push_files` for what else can be said, returned and raised.

    Args:
        files: by their paths in the repository.
        encoders, links: for the card; see `model_card`.
    """
    published: dict[str, Path | bytes] = dict(files)
    if CARD not in files or is_made(files[CARD].read_text(encoding="utf-8")):
        published[CARD] = model_card(files, repository, encoders, links).encode()
    return push_files(published, repository, **options)


def files_beside_weights(source: str) -> dict[str, Path]:
    """What a folder, or a repository of the Hub, holds beside config and weights: tokenizer,
    discriminator, card, evaluation, samples."""
    name, revision = split_revision(source)
    if not Path(name).is_dir():
        with explained(name, revision):
            name = snapshot_download(name, revision=revision, ignore_patterns=list(WEIGHTS))
    files = folder_files(Path(name))
    return {path: file for path, file in files.items() if not any(fnmatch(path, one) for one in WEIGHTS)}
