"""Reading files out of zip and tar archives and folders, without trusting them."""

import gzip
import hashlib
import io
import json
import lzma
import pickle
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

MAX_BYTES = 1 << 30  # of one file: COCO's largest JSON has a third of it
MAX_RATIO = 200  # expansion beyond this is a bomb; text and JSON stay below 30
MIN_BOMB = 1 << 20  # small files may expand as they like
HASHED = (
    1 << 26
)  # bytes of a file's beginning that its fingerprint covers: tables are read whole, large archives are not


class BrokenArchiveError(ValueError):
    """An archive that cannot be used; the message names the file and says why."""


def check_name(name: str, where: object) -> str:
    """Returns a relative path without `..`, as it is.

    Raises:
        BrokenArchiveError: the name could lead out of its folder.
    """
    if (
        not name
        or name.startswith("/")
        or "\\" in name
        or "\0" in name
        or ":" in name.split("/")[0]
        or ".." in PurePosixPath(name).parts
    ):
        raise BrokenArchiveError(f"{where}: the name {name!r} leads out of the archive; it is refused")
    return name


def fingerprint(path: Path, without: Path | None = None) -> str:
    """Of a file its size, beginning and end, where compressed archives keep their check sums; of a
    folder its files' names, sizes and times.

    Args:
        without: where it lies inside the folder, this one does not count, as hidden files and
            folders do not.
    """
    if path.is_dir():
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
    """The files of a folder, a zip or a tar archive: `names`, and `read(name)`. Links are never
    followed.

    A tar archive, which has no random access, is first unpacked under `work`; a zip archive is read
    in place.

    Args:
        path: the folder or archive, told apart by content.
        work: folder for what must be unpacked; a finished unpacking of the same file found there is
            used again.

    Raises:
        BrokenArchiveError: not an archive, truncated, unsafe names, links, sparse files, or an
            expansion that only a bomb has.
    """

    def __init__(self, path: Path, work: Path):
        self.path = path
        self._zip = None
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        if path.is_dir():
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
        members = [member for member in self._zip.infolist() if not member.is_dir()]
        for member in members:
            check_name(member.filename, self.path)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BrokenArchiveError(f"{self.path}: {member.filename} is a link; links are refused")
            _check_expansion(self.path, member.filename, member.file_size, member.compress_size)
        self.names = sorted(member.filename for member in members)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        check_name(name, self.path)
        if self._zip is None:
            path = self._folder / name
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise BrokenArchiveError(f"{self.path}: {name} is a link out of the folder; it is refused")
            if not path.is_file():
                raise FileNotFoundError(f"{self.path}: {name} is missing")
            return path.read_bytes()
        try:
            return self._zip.read(name)
        except KeyError as error:
            raise FileNotFoundError(f"{self.path}: {name} is missing") from error
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
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    with (partial / name).open("wb") as out:
                        shutil.copyfileobj(archive.extractfile(member), out)
            while limited.read(1 << 20):  # to the end: a truncated tail shows only there
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenArchiveError(f"{path}: truncated or broken archive ({error}); fetch it again") from error
    partial.rename(target)


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
