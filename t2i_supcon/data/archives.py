"""Reading files out of zip and tar archives and folders, without trusting them."""

import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath

MAX_BYTES = 1 << 30  # of one file: COCO's largest JSON has a third of it
MAX_RATIO = 200  # expansion beyond this is a bomb; text and JSON stay below 30
MIN_BOMB = 1 << 20  # small files may expand as they like
HASHED = 1 << 26  # bytes of a file's beginning in its fingerprint: all of a table, a part of an archive
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"}


class BrokenArchiveError(ValueError):
    """An archive that cannot be used; the message names the file and says why."""


def check_name(name: str, where: object) -> str:
    """Returns a relative path without `..`, as it is. Colons and backslashes may stand in it.

    Raises:
        BrokenArchiveError: the name could lead out of its folder, on Windows too.
    """
    path = name.replace("\\", "/")
    if not path or path[0] == "/" or "\0" in path or ".." in path.split("/") or re.match("[A-Za-z]:/", path):
        raise BrokenArchiveError(f"{where}: the name {name!r} leads out of the archive; it is refused")
    return name


def check_file(path: Path) -> Path:
    """Returns the path of a file or folder, as it is.

    Raises:
        FileNotFoundError: nothing is there.
        BrokenArchiveError: a pipe or a device, which could keep its reader waiting for ever.
    """
    if not path.exists():
        why = "it is a link that leads nowhere" if path.is_symlink() else "no such file or folder"
        raise FileNotFoundError(f"{path}: {why}")
    if not path.is_file() and not path.is_dir():
        raise BrokenArchiveError(f"{path}: neither a file nor a folder but a pipe or a device; give a file")
    return path


def fingerprint(path: Path, without: Path | None = None) -> str:
    """Of a file its size, beginning and end, where compressed archives keep their check sums; of a
    folder its files' names, sizes and times.

    Args:
        without: where it lies inside the folder, this one does not count, as hidden files and
            folders do not.

    Raises:
        BrokenArchiveError: neither a file nor a folder.
    """
    if check_file(path).is_dir():
        inner = without is not None and path in without.parents
        found = sorted(
            (p.relative_to(path).as_posix(), p)
            for p in path.rglob("*")
            if p.is_file() and not (inner and without in p.parents)
        )
        files = [(name, p.stat().st_size, p.stat().st_mtime_ns) for name, p in found if "/." not in f"/{name}"]
        return hashlib.sha1(json.dumps(files).encode()).hexdigest()
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        digest = hashlib.sha1(str(size).encode())
        file.seek(0)
        digest.update(file.read(HASHED))
        file.seek(max(HASHED, size - 2**20))
        digest.update(file.read())
    return digest.hexdigest()


class Files:
    """The files of a folder, a zip or a tar archive: `names`, and `read(name)`. No link is followed
    out of them.

    A tar archive, which has no random access, is first unpacked under `work`; a zip archive is read
    in place. Zip archives made on Windows may divide folders by backslashes; `names` have slashes.

    Args:
        path: the folder or archive, told apart by content.
        work: folder for what must be unpacked; a finished unpacking of the same file found there is
            used again.

    Raises:
        BrokenArchiveError: not an archive, truncated, unsafe names, two different files of one
            name, links, sparse files, or an expansion that only a bomb has.
    """

    def __init__(self, path: Path, work: Path):
        self.path = path
        self._zip = None
        if check_file(path).is_dir():
            self._folder = path
        else:
            with path.open("rb") as file:
                head = file.read(512)
            if head[:2] == b"PK":
                self._open_zip(path)
                return
            if head[:2] != b"\x1f\x8b" and head[257:262] != b"ustar":
                raise BrokenArchiveError(f"{path}: neither a zip nor a tar archive")
            self._folder = work / f"{path.name}-{fingerprint(path)[:12]}.unpacked"
            if not self._folder.exists():
                _unpack_tar(path, self._folder, head[:2] == b"\x1f\x8b")
        self.names = sorted(p.relative_to(self._folder).as_posix() for p in self._folder.rglob("*") if p.is_file())

    def inner(self, name: str) -> "Files":
        """Opens a zip archive that lies in this one."""
        files = Files.__new__(Files)
        files.path = self.path / name
        files._open_zip(io.BytesIO(self.read(name)))
        return files

    def _open_zip(self, file: Path | io.BytesIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise BrokenArchiveError(
                f"{self.path}: truncated or broken zip archive ({error}); fetch it again"
            ) from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            name = check_name(member.filename, self.path).replace("\\", "/")
            if name.endswith("/"):
                continue
            first = self._members.setdefault(name, member)
            if (first.CRC, first.file_size) != (member.CRC, member.file_size):
                raise BrokenArchiveError(f"{self.path}: it holds two different files called {name}; keep one")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BrokenArchiveError(f"{self.path}: {member.filename} is a link; links are refused")
            _check_expansion(self.path, member.filename, member.file_size, member.compress_size)
        self.names = sorted(self._members)

    @cached_property
    def pictures(self) -> list[str]:
        """The names that end as those of pictures do; hidden files and what a Mac packs beside
        files are none."""
        suffixed = (name for name in self.names if _suffix(name).lower() in PICTURE_SUFFIXES)
        return [name for name in suffixed if "/." not in f"/{name}" and "__MACOSX/" not in name]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """The pictures by their path without the suffix."""
        grouped = defaultdict(list)
        for name in self.pictures:
            grouped[name.removesuffix(_suffix(name))].append(name)
        return grouped

    @cached_property
    def _only_folder(self) -> str:
        """The folder, ending in "/", in which all pictures lie, as where a folder was packed with
        its own name; or ""."""
        top = {name.split("/")[0] for name in self.pictures}
        return f"{top.pop()}/" if len(top) == 1 and all("/" in name for name in self.pictures) else ""

    def find_picture(self, listed: str) -> str | None:
        """The name of the picture that a list calls `listed`.

        A name counts as it is written before it counts with slashes for backslashes and below the
        one folder that holds all pictures, and each of these before the only picture there with
        another suffix: `a.JPG` for `a.jpg`.
        """
        spellings = [listed, listed.replace("\\", "/").removeprefix("./")]
        spellings += [self._only_folder + name for name in spellings]
        for name in spellings:
            if name in self._known:
                return name
        for name in spellings:
            others = self._by_stem.get(name.removesuffix(_suffix(name)), [])
            if len(others) == 1:
                return others[0]
        return None

    @cached_property
    def _by_last_stem(self) -> dict[str, list[str]]:
        """The pictures by their names without folders and suffix."""
        grouped = defaultdict(list)
        for name in self.pictures:
            grouped[PurePosixPath(name).stem].append(name)
        return grouped

    def find_by_stem(self, listed: str) -> list[str]:
        """The names of the pictures that a list may call `listed`, whatever their folder and their
        suffix are."""
        return self._by_last_stem.get(PurePosixPath(listed).stem, [])

    @cached_property
    def _known(self) -> set[str]:
        return set(self.names)

    def read(self, name: str) -> bytes:
        """The bytes of one of `names`.

        Raises:
            FileNotFoundError: it is none of them.
            BrokenArchiveError: a damaged archive, or a link out of the folder.
        """
        if name not in self._known:
            raise FileNotFoundError(f"{self.path}: {name} is missing")
        if self._zip is None:
            path = self._folder / name
            if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._folder)):
                raise BrokenArchiveError(f"{self.path}: {name} is a link out of the folder; it is refused")
            return path.read_bytes()
        try:
            return self._zip.read(self._members[name])
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            OSError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise BrokenArchiveError(
                f"{self.path}: {name} cannot be read ({error}); fetch the archive again"
            ) from error


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes."""

    def __init__(self, file, limit: int, where: Path):
        self.file, self.left, self.where = file, limit, where

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise BrokenArchiveError(
                f"{self.where}: it expands more than {MAX_RATIO} times, as only a bomb does; it is refused"
            )
        return data


class _Member(tarfile.TarInfo):
    """A member of an archive; only a block of zeros ends it, where tarfile also takes a broken or
    missing header for the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _check_expansion(path: Path, name: str, size: int, packed: int) -> None:
    if size > MAX_BYTES or (size > MIN_BOMB and size > MAX_RATIO * packed):
        raise BrokenArchiveError(
            f"{path}: {name} expands from {packed} to {size} bytes, as only a bomb does; it is refused"
        )


def _unpack_tar(path: Path, target: Path, zipped: bool) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    size = path.stat().st_size
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            limited = _Limited(file, max(MIN_BOMB, MAX_RATIO * size), path)
            with tarfile.open(fileobj=limited, mode="r|", tarinfo=_Member) as archive:
                for member in archive:
                    name = check_name(member.name.removeprefix("./") or ".", path)
                    if member.isdir():
                        continue
                    if not member.isfile():
                        raise BrokenArchiveError(f"{path}: {name} is a link or a device; these are refused")
                    if member.issparse():  # its holes are written though they are not in the stream
                        raise BrokenArchiveError(
                            f"{path}: {name} is a sparse file; it is refused; pack the archive without --sparse"
                        )
                    _check_expansion(path, name, member.size, size)
                    if (partial / name).is_file():
                        if (partial / name).read_bytes() != archive.extractfile(member).read():
                            raise BrokenArchiveError(f"{path}: it holds two different files called {name}; keep one")
                        continue
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    with (partial / name).open("wb") as out:
                        shutil.copyfileobj(archive.extractfile(member), out)
            while limited.read(1 << 20):  # to the end: a truncated tail shows only there
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenArchiveError(f"{path}: truncated or broken archive ({error}); fetch it again") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BrokenArchiveError(f"{path}: {name} is both a file and a folder; it is refused") from error
    partial.rename(target)


def decode_text(data: bytes, where: object) -> str:
    """Text in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: another encoding; `where` begins the message.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: it is not in UTF-8 ({error}); save it in UTF-8") from error


def parse_json(text: str, where: object, make_object: Callable[[list[tuple[str, object]]], object] = dict) -> object:
    """Reads JSON.

    Args:
        make_object: makes an object of its (key, value) pairs.

    Raises:
        ValueError: no JSON, or nested deeper than any data is; `where` begins the message.
    """
    try:
        return json.loads(text, object_pairs_hook=make_object)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(f"{where} is not JSON that holds data: it is nested too deeply") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}; only lists, dicts, strings and numbers are admitted"
        )


def read_plain_pickle(data: bytes, where: object) -> object:
    """Reads lists, dicts, strings and numbers out of a pickle, Python 2's included; runs no code.

    Raises:
        BrokenArchiveError: anything else in the pickle, or a broken one.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a broken pickle can raise almost anything
        raise BrokenArchiveError(f"{where}: not a plain pickle ({error})") from error
