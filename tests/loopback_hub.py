"""A Hub on this machine: repositories in memory behind the protocol that huggingface_hub speaks.

Each endpoint answers the least that the client reads. Importing this starts the one of this process
and makes it the only one that huggingface_hub knows, if that was not imported before.
"""

import atexit
import base64
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS = (".safetensors", ".parquet", ".png", ".onnx", ".bin")
LARGE = 10 * 2**20  # every other file goes into the commit itself up to this size
CODES = {"repo": "RepoNotFound", "revision": "RevisionNotFound", "entry": "EntryNotFound", "gated": "GatedRepo"}


class Refusal(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict | None = None, **content):
        super().__init__(message)
        self.content = {"error": message, **content}
        self.status, self.headers = status, {**(headers or {}), "X-Error-Message": message}
        if code is not None:
            self.headers["X-Error-Code"] = CODES[code]


@dataclass
class Repository:
    owner: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # files of each, oldest first
    titles: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], title: str, branch: str = "main") -> str:
        content = [title, len(self.commits), *((path, _blob(data)) for path, data in sorted(files.items()))]
        oid = hashlib.sha1(repr(content).encode()).hexdigest()
        self.commits[oid], self.titles[oid] = files, title
        self.branches[branch] = oid
        return oid

    def oid(self, revision: str) -> str:
        known = self.branches | self.tags | {oid: oid for oid in self.commits}
        if revision not in known:
            raise Refusal(404, f"Invalid rev id: {revision}", "revision")
        return known[revision]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.oid(revision)]


@dataclass
class Fault:
    """What happens to the requests whose "METHOD /path" a pattern finds, so many times."""

    pattern: str
    status: int | None
    headers: dict[str, str]
    cut_after: int | None
    times: float
    wait: threading.Event | None


class LoopbackHub:
    """The server: `url` to reach it, `repos` by ("model" | "dataset" | "space", "user/name"), and
    `requests` as it was asked."""

    def __init__(self):
        self.tokens = {"hf_test": "me", "hf_other": "other"}
        self.reset()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.storage = f"http://localhost:{self.server.server_port}/lfs"  # another host, as the Hub's large files have
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.repos: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # LFS
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def add(self, name: str, folder, kind: str = "model", **options) -> Repository:
        """A repository of all files of a folder, in one commit."""
        repo = self.repos[kind, name] = Repository(name.split("/")[0], **options)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        repo.commit({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, "all files")
        for data in repo.files().values():
            self.lfs_put(data)
        return repo

    def lfs_put(self, data: bytes) -> None:
        self.objects[hashlib.sha256(data).hexdigest()] = data

    @contextmanager
    def failing(
        self, pattern: str, status: int | None = None, times=float("inf"), cut_after=None, wait=None, **headers: str
    ):
        """Inside the block, requests that the pattern finds are answered with a status, cut off
        behind so many bytes, or kept waiting for an event."""
        fault = Fault(pattern, status, {k.replace("_", "-"): v for k, v in headers.items()}, cut_after, times, wait)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, request):
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *_):
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self.chunk, b""))
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        with self.hub.lock:
            self.hub.requests.append(request)
            fault = self.hub.fault(request)
        if fault is not None and fault.wait is not None:
            fault.wait.wait()
        with self.hub.lock:
            try:
                if fault is not None and fault.status is not None:
                    raise Refusal(fault.status, "as the test wants it", headers=fault.headers)
                status, headers, data = self.route(request, body)
            except Refusal as refusal:
                status, headers, data = refusal.status, refusal.headers, _json(refusal.content)
        self.send(status, headers, data, None if fault is None else fault.cut_after)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return data

    def send(self, status: int, headers: dict, data: bytes, cut_after: int | None) -> None:
        if status == 200 and (asked := self.headers.get("Range")):
            self.hub.ranges.append(asked)
            start, end = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
            whole, data = len(data), data[int(start) : int(end) + 1 if end else None]
            status = 206
            headers = headers | {"Content-Range": f"bytes {start}-{int(start) + len(data) - 1}/{whole}"}
        self.send_response(status)
        for name, value in ({"Content-Length": len(data)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if cut_after is None else data[:cut_after])
            if cut_after is not None:
                self.close_connection = True

    def route(self, request: str, body: bytes) -> tuple[int, dict, bytes]:
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, request):
                answer = getattr(self, method)(*found.groups(), body=body)
                return (
                    answer if isinstance(answer, tuple) else (200, {"Content-Type": "application/json"}, _json(answer))
                )
        raise Refusal(404, f"no such page: {request}")

    @property
    def user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def repo(self, kind: str | None, name: str, write: bool = False) -> Repository:
        repo, user = self.hub.repos.get(((kind or "models").rstrip("s"), name)), self.user
        if repo is None or (repo.private and user != repo.owner):
            raise Refusal(404 if user else 401, "Repository not found", "repo")
        if write and user != repo.owner:
            raise Refusal(403, "you have no right to write to this repository")
        return repo

    # -- accounts and repositories
    def whoami(self, body):
        if self.user is None:
            raise Refusal(401, "Invalid user token.")
        return {"type": "user", "name": self.user, "orgs": [], "auth": {"type": "access_token"}}

    def validate_yaml(self, body):
        content = json.loads(body)["content"]
        return {"errors": [], "warnings": []} if content.startswith("---\n") else _refuse(400, "no metadata")

    def create(self, body):
        asked = json.loads(body)
        name = f"{asked.get('organization') or self.user}/{asked['name']}"
        if self.user is None:
            raise Refusal(401, "Invalid username or password.")
        if name.split("/")[0] != self.user:
            raise Refusal(403, f"You don't have the rights to create a model under the namespace {name.split('/')[0]}")
        key = (asked.get("type") or "model", name)
        url = f"{self.hub.url}/{'' if key[0] == 'model' else key[0] + 's/'}{name}"
        if key in self.hub.repos:
            raise Refusal(409, "You already created this repo", url=url)
        private = asked.get("private") or asked.get("visibility") == "private"
        repo = self.hub.repos[key] = Repository(self.user, bool(private))
        repo.commit({}, "initial commit")
        return {"url": url, "name": name}

    def info(self, kind, name, revision, body):
        repo = self.repo(kind, name)
        oid = repo.oid(revision or "main")
        files = repo.commits[oid]
        siblings = [{"rfilename": path} for path in files]
        about = {"tags": [], "downloads": 0, "likes": 0, "private": repo.private, "gated": repo.gated and "auto"}
        return {"id": name, "sha": oid, "siblings": siblings, **about}

    def refs(self, kind, name, body):
        repo = self.repo(kind, name)
        return {
            what: [{"name": n, "ref": f"refs/{ref}/{n}", "targetCommit": oid} for n, oid in getattr(repo, what).items()]
            for what, ref in (("branches", "heads"), ("tags", "tags"))
        } | {"converts": []}

    def tree(self, kind, name, revision, sub, body):
        files = self.repo(kind, name).files(revision)
        inside = {path: data for path, data in files.items() if not sub or path.startswith(f"{sub}/")}
        if sub and not inside:
            raise Refusal(404, f"{sub} does not exist", "entry")
        folders = {path.rsplit("/", 1)[0] for path in inside if "/" in path}
        entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        return entries + [_entry(path, data) for path, data in inside.items()]

    def paths_info(self, kind, name, revision, body):
        files = self.repo(kind, name).files(revision)
        asked = json.loads(body)["paths"]
        return [_entry(path, files[path]) for path in asked if path in files]

    def commits(self, kind, name, revision, body):
        repo = self.repo(kind, name)
        titles = repo.titles.items()
        about = {"authors": [{"user": repo.owner}], "date": "2026-01-01T00:00:00.000Z", "message": ""}
        return [{"id": oid, "title": title, **about} for oid, title in reversed(titles)]

    def make_ref(self, kind, name, what, ref, body):
        repo, asked = self.repo(kind, name, write=True), json.loads(body or "{}")
        if what == "tag":
            new, oid, known = asked["tag"], repo.oid(ref), repo.tags
        else:
            new, oid, known = ref, repo.oid(asked.get("startingPoint") or "main"), repo.branches
        if new in known:
            raise Refusal(409, f"Reference {new} exists already")
        known[new] = oid
        return 201, {}, b""

    def delete_ref(self, kind, name, what, ref, body):
        repo = self.repo(kind, name, write=True)
        known = repo.tags if what == "tag" else repo.branches
        if known.pop(ref, None) is None:
            raise Refusal(404, f"no {ref}", "revision")
        return 200, {}, b""

    # -- files
    def preupload(self, kind, name, revision, body):
        files = self.repo(kind, name, write=True).files(revision)
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            large = path.endswith(LFS) or file["size"] > LARGE
            answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if path in files:
                answer["oid"] = hashlib.sha256(files[path]).hexdigest() if large else _blob(files[path])
            answers.append(answer)
        return {"files": answers}

    def lfs_batch(self, kind, name, body):
        self.repo(kind, name, write=True)
        objects = []
        for asked in json.loads(body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.objects:
                where = f"{self.hub.storage}/{asked['oid']}"
                answer["actions"] = {"upload": {"href": where}, "verify": {"href": f"{self.hub.url}/lfs-verify"}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, oid, body):
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.lfs_put(body)
        return {}

    def lfs_get(self, oid, body):
        return 200, {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"}, self.hub.objects[oid]

    def lfs_verify(self, body):
        return {}

    def make_commit(self, kind, name, revision, body):
        repo = self.repo(kind, name, write=True)
        lines = [json.loads(line) for line in body.splitlines()]
        header, files = lines[0]["value"], dict(repo.files(revision))
        if header.get("parentCommit", repo.oid(revision)) != repo.oid(revision):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise Refusal(400, f"{value['path']} was not uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                gone = value["path"].rstrip("/")
                files = {p: d for p, d in files.items() if p != gone and not p.startswith(f"{gone}/")}
        oid = repo.commit(files, header["summary"], revision)
        return {"commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}

    def resolve(self, kind, name, revision, path, body):
        repo = self.repo(kind, name)
        if repo.gated and self.user != repo.owner:
            raise Refusal(403, f"Access to model {name} is restricted.", "gated")
        oid = repo.oid(revision)
        commit = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if path not in repo.commits[oid]:
            raise Refusal(404, f"{path} does not exist in {revision}", "entry", commit)
        data = repo.commits[oid][path]
        if not path.endswith(LFS):
            return 200, commit | {"ETag": f'"{_blob(data)}"'}, data
        sha = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": len(data), "Location": f"{self.hub.storage}/{sha}"}
        return 302, commit | linked, b""


REPO = r"/api/(models|datasets|spaces)/([^/]+/[^/]+)"
ROUTES = [
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/validate-yaml", "validate_yaml"),
    (r"POST /api/repos/create", "create"),
    (rf"(?:GET|HEAD) {REPO}(?:/revision/(.+))?", "info"),
    (rf"GET {REPO}/refs", "refs"),
    (rf"GET {REPO}/tree/([^/]+)(?:/(.+))?", "tree"),
    (rf"GET {REPO}/commits/(.+)", "commits"),
    (rf"POST {REPO}/paths-info/(.+)", "paths_info"),
    (rf"POST {REPO}/preupload/(.+)", "preupload"),
    (rf"POST {REPO}/commit/(.+)", "make_commit"),
    (rf"POST {REPO}/(tag|branch)/(.+)", "make_ref"),
    (rf"DELETE {REPO}/(tag|branch)/(.+)", "delete_ref"),
    (r"POST /(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
    (r"PUT /lfs/(.+)", "lfs_put"),
    (r"(?:GET|HEAD) /lfs/(.+)", "lfs_get"),
    (r"POST /lfs-verify", "lfs_verify"),
    (r"(?:GET|HEAD) /(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
]


def _refuse(status: int, message: str):
    raise Refusal(status, message)


def _json(value) -> bytes:
    return json.dumps(value).encode()


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
    sha = hashlib.sha256(data).hexdigest()
    return entry | ({"lfs": {"oid": sha, "size": len(data), "pointerSize": 130}} if path.endswith(LFS) else {})


HUB = LoopbackHub()
HUB_CACHE = tempfile.mkdtemp(prefix="hub-cache-")
atexit.register(shutil.rmtree, HUB_CACHE, ignore_errors=True)
os.environ.pop("HF_HUB_OFFLINE", None)
os.environ |= {
    "HF_ENDPOINT": HUB.url,
    "HF_HUB_CACHE": HUB_CACHE,
    "HF_TOKEN": "hf_test",
    "HF_HUB_DISABLE_XET": "1",  # a protocol of its own for large files; without it they go by HTTP
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
