"""A local server with the part of the Hub's API that `huggingface_hub`, `transformers` and `datasets` use.

Repositories are lists of commits in memory. A test can order faults: the next matching requests get an error status,
or their connection is closed after half of the body.
"""

import base64
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants

TOKEN = "hf_" + "stand1in2token3" * 2
CUT = "cut"
LFS_ENDINGS = (".safetensors", ".parquet", ".png", ".npz")


@dataclass
class Repository:
    private: bool
    # Of each commit: its id, and the content of each path.
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def add(self, files: dict[str, bytes], branch: str = "main") -> str:
        seed = repr(
            [len(self.commits), sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())]
        )
        sha = hashlib.sha1(seed.encode()).hexdigest()
        self.commits.append((sha, files))
        self.branches[branch] = sha
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = self.branches.get(revision, revision)
        return next((commit for commit in self.commits if commit[0] == sha), None)


@dataclass
class Fault:
    method: str
    path: str  # a regular expression
    action: int | str | Callable[[], None]  # a status, CUT, or something to do before the request is answered
    times: int


def oid(name: str, data: bytes) -> str:
    """The id of a file on the Hub: the hash of its content for large files, of its git blob for others."""
    if name.endswith(LFS_ENDINGS):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}  # "models/org/name", "datasets/org/name"
        self.large: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fail(self, method: str, path: str, action: int | str | Callable[[], None], times: int = 1) -> None:
        """Orders a fault for the next requests whose path matches."""
        self.faults.append(Fault(method, path, action, times))

    def fault_of(self, method: str, path: str) -> int | str | Callable[[], None] | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault.action
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_request_line()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def handle_request_line(self) -> None:
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.server.log.append(f"{self.command} {path}")
        fault = self.server.fault_of(self.command, path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault == CUT:
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.body = self.read_chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(length)
        if callable(fault):
            fault()
        elif fault is not None:
            self.answer({"error": "ordered by the test"}, int(fault))
            return
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, f"{self.command} {path}")
            if match:
                getattr(self, method)(**match.groupdict())
                return
        self.server.unknown.append(f"{self.command} {self.path}")
        self.answer({"error": "not in this server"}, 404)

    def read_chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, content: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        self.answer({"error": code}, status, {"X-Error-Code": code, "X-Error-Message": code})

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repository(self, kind: str, name: str, write: bool = False) -> Repository | None:
        """The repository, or None after an answer that refuses it."""
        repository = self.server.repositories.get(f"{kind or 'models'}/{name}")
        if not self.known and (write or repository is None or repository.private):
            self.refuse(401, "RepoNotFound")
        elif repository is None:
            self.refuse(404, "RepoNotFound")
        else:
            return repository
        return None

    def commit_of(self, kind: str, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.repository(kind, name)
        commit = repository.at(revision) if repository is not None else None
        if repository is not None and commit is None:
            self.refuse(404, "RevisionNotFound")
        return commit

    # -- writing ----------------------------------------------------------------------------------------------

    def create(self) -> None:
        if not self.known:
            self.refuse(401, "Unauthorized")
            return
        wanted = json.loads(self.body)
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        key = f"{wanted.get('type', 'model')}s/{name}"
        url = f"{self.server.url}/{'' if key.startswith('models') else 'datasets/'}{name}"
        if key in self.server.repositories:
            self.answer({"error": "it exists", "url": url}, 409)
            return
        repository = Repository(private=wanted.get("visibility") == "private" or bool(wanted.get("private")))
        repository.add({".gitattributes": b"*.safetensors filter=lfs\n"})
        self.server.repositories[key] = repository
        self.answer({"url": url, "name": name, "id": name})

    def branch(self, kind: str, name: str, revision: str) -> None:
        repository = self.repository(kind, name, write=True)
        if repository is not None:
            if revision in repository.branches:
                self.answer({"error": "it exists"}, 409)
                return
            repository.branches[revision] = repository.branches["main"]
            self.answer({})

    def validate(self) -> None:
        card = json.loads(self.body)["content"]
        values = yaml.safe_load(card.split("---")[1])
        errors = [{"message": f"{key} is missing"} for key in ("license", "tags") if not values.get(key)]
        self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        repository = self.repository(kind, name, write=True)
        if repository is not None:
            _, files = repository.at(revision)
            self.answer(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(LFS_ENDINGS) else "regular",
                            "shouldIgnore": False,
                            "oid": oid(file["path"], files[file["path"]]) if file["path"] in files else None,
                        }
                        for file in json.loads(self.body)["files"]
                    ]
                }
            )

    def batch(self, name: str, kind: str | None = None) -> None:
        if self.repository(kind or "models", name, write=True) is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            actions = {
                "upload": {"href": f"{self.server.url}/large/{wanted['oid']}"},
                "verify": {"href": f"{self.server.url}/verify"},
            }
            objects.append({**wanted} if wanted["oid"] in self.server.large else {**wanted, "actions": actions})
        self.answer({"transfer": "basic", "objects": objects})

    def put_large(self, name: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != name:
            self.answer({"error": "the content has another id"}, 400)
            return
        self.server.large[name] = self.body
        self.answer({})

    def verify(self) -> None:
        wanted = json.loads(self.body)
        content = self.server.large.get(wanted["oid"])
        self.answer({}, 200 if content is not None and len(content) == wanted["size"] else 404)

    def commit(self, kind: str, name: str, revision: str) -> None:
        repository = self.repository(kind, name, write=True)
        if repository is None:
            return
        head, files = repository.at(revision)
        files = dict(files)
        for line in self.body.splitlines():
            key, value = (operation := json.loads(line))["key"], operation["value"]
            if key == "header" and value.get("parentCommit", head) != head:
                self.answer({"error": "The head of the branch is another commit than parentCommit."}, 412)
                return
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repository.add(files, revision)
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{self.server.url}/{prefix}{name}/commit/{sha}"
        self.answer({"success": True, "commitOid": sha, "commitUrl": url})

    # -- reading ----------------------------------------------------------------------------------------------

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        commit = self.commit_of(kind, name, revision or "main")
        if commit is not None:
            siblings = [{"rfilename": path} for path in sorted(commit[1])]
            private = self.server.repositories[f"{kind}/{name}"].private
            answer = {"id": name, "modelId": name, "sha": commit[0], "siblings": siblings, "private": private}
            self.answer({**answer, "tags": [], "downloads": 0, "likes": 0, "gated": False, "disabled": False})

    @staticmethod
    def entry(path: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": oid(path, data)}
        if path.endswith(LFS_ENDINGS):
            entry["lfs"] = {"oid": oid(path, data), "size": len(data), "pointerSize": 134}
        return entry

    def entries(self, files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
        inside = {path: data for path, data in files.items() if path.startswith(folder)}
        folders = {
            path[: len(folder) + place]
            for path in inside
            for place, sign in enumerate(path[len(folder) :])
            if sign == "/"
        }
        entries = [{"type": "directory", "path": path, "size": 0, "oid": path} for path in sorted(folders)]
        entries += [self.entry(path, data) for path, data in sorted(inside.items())]
        return entries if recursive else [entry for entry in entries if "/" not in entry["path"][len(folder) :]]

    def tree(self, kind: str, name: str, revision: str, folder: str | None = None) -> None:
        commit = self.commit_of(kind, name, revision)
        if commit is None:
            return
        folder = f"{folder.strip('/')}/" if folder and folder.strip("/") else ""
        entries = self.entries(commit[1], folder, self.query.get("recursive", ["False"])[0].lower() in ("true", "1"))
        if folder and not entries:
            self.refuse(404, "EntryNotFound")
            return
        self.answer(entries)

    def paths(self, kind: str, name: str, revision: str) -> None:
        commit = self.commit_of(kind, name, revision)
        if commit is not None:
            text = self.body.decode()
            wanted = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            entries = {entry["path"]: entry for entry in self.entries(commit[1], "", recursive=True)}
            self.answer([entries[path.strip("/")] for path in wanted if path.strip("/") in entries])

    def resolve(self, name: str, revision: str, path: str, kind: str | None = None) -> None:
        commit = self.commit_of(kind or "models", name, revision)
        if commit is None:
            return
        headers = {"X-Repo-Commit": commit[0]}
        data = commit[1].get(path)
        if data is None:
            self.answer({}, 404, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        headers |= {"ETag": f'"{oid(path, data)}"', "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if span:
            first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            self.answer(data[first : last + 1], 206, headers)
            return
        self.answer(data, 200, headers)

    def nothing(self) -> None:
        self.answer({}, 404)


_API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_NAMED = r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)"
ROUTES = [
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate"),
    (rf"POST {_API}/branch/(?P<revision>[^/]+)", "branch"),
    (rf"POST {_API}/preupload/(?P<revision>[^/]+)", "preupload"),
    (rf"POST {_API}/commit/(?P<revision>[^/]+)", "commit"),
    (rf"POST {_API}/paths-info/(?P<revision>[^/]+)", "paths"),
    (rf"POST {_NAMED}\.git/info/lfs/objects/batch", "batch"),
    (r"PUT /large/(?P<name>\w+)", "put_large"),
    (r"POST /verify", "verify"),
    (rf"GET {_API}(?:/revision/(?P<revision>[^/]+))?", "info"),
    (rf"GET {_API}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", "tree"),
    (rf"(?:GET|HEAD) {_NAMED}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    # The client asks for it, and does not need it.
    (r"GET /api/agent-harnesses", "nothing"),
]


def client_environment(server: HubServer, home: Any, **further: str) -> dict[str, str]:
    """The environment of a process whose client uses the server, with a separate cache."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_DATASETS_CACHE")}
    settings = {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **settings, "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", **further}


def client_of(url: str, home: Any) -> None:
    """Makes the client of a forked process use the server at `url`, with a separate cache, until the process ends."""
    constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = url, False, True
    constants.HUGGINGFACE_CO_URL_TEMPLATE = url + "/{repo_id}/resolve/{revision}/{filename}"
    constants.HF_HUB_CACHE = os.path.join(home, "hub")
    os.environ["HF_TOKEN"] = TOKEN


@contextmanager
def client_here(server: HubServer, token: str | None = TOKEN) -> Iterator[None]:
    """The client of this process uses the server, and does not wait before it tries again."""
    settings = {"ENDPOINT": server.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(constants, name, value)
        patch.setenv("HF_TOKEN", token) if token else patch.delenv("HF_TOKEN", raising=False)
        patch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        patch.setattr("transformers.utils.hub._hf_api", None)
        yield
