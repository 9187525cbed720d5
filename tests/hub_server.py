"""A small Hugging Face Hub on loopback: the part of its protocol that pushing and fetching need.

    with HubServer() as hub:
        push_folder(..., endpoint=hub.url, token=hub.token)
        hub.files("dataset", "ada/books")   # path -> bytes, on `main`

Repositories, branches, pre-upload, LFS batch and PUT, commits (NDJSON), paginated listing, resolve,
validation of cards; and faults on demand: a status, a connection that is cut before or after the
request took effect or in the middle of its body, or a server that never answers. Others than its
owner may look at a repository if it is public, and not write; without a token one may only look.
Xet is not spoken: tests switch it off.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_LoopbackTokenThatOnlyTheseTestsKnow"
USER = "ada"
NAME = r"(?P<id>[^/]+/[^/]+)"
API = rf"/api/(?P<type>dataset|model)s/{NAME}"
RESOLVE = rf"/(?P<type>datasets/|){NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
LFS_SUFFIXES = (".parquet", ".gguf", ".safetensors")


@dataclass
class Repo:
    """A repository: each branch maps paths to (content, whether it is LFS)."""

    private: bool
    branches: dict[str, dict[str, tuple[bytes, bool]]] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Fault:
    """What to do in place of answering the next `times` requests whose path holds `part`."""

    part: str
    times: int
    status: int | None = None
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False
    midway: bool = False
    hang: bool = False


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status, self.code = status, extra.pop("code", None)
        self.body = {"error": message, **extra}


class HubServer:
    """The server and all that it holds; see the module."""

    def __init__(self, page_size: int = 1000) -> None:
        self.token = TOKEN
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.moved: dict[str, str] = {}  # old name -> user/name, as for `imdb`
        self.page_size = page_size
        self.before_commit: Callable[[], object] | None = None  # what somebody else does, once
        self.stopping = threading.Event()
        self._faults: list[Fault] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def files(self, kind: str, name: str, branch: str = "main") -> dict[str, bytes]:
        """Path -> content of a branch."""
        return {p: content for p, (content, _) in self.repos[kind, name].branches[branch].items()}

    def paths(self, method: str) -> list[str]:
        """The paths of all requests of a method so far."""
        return [path for made, path in self.requests if made == method]

    def fail(
        self, part: str, status: int, times: int = 1, body: bytes = b"{}", **headers: str
    ) -> None:
        """Answer with `status`; header names are given with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(part, times, status, body, named))

    def cut(self, part: str, times: int = 1, after: bool = False, midway: bool = False) -> None:
        """Close the connection without an answer: `after` the request took effect, `midway` through
        its body, or before."""
        self._faults.append(Fault(part, times, after=after, midway=midway))

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()

    def add_repo(self, kind: str, name: str, private: bool = False) -> Repo:
        """A repository with nothing but what the Hub puts there, whosever it is."""
        main = {".gitattributes": (b"*.parquet filter=lfs\n", False)}
        self.repos[kind, name] = Repo(private, {"main": main})
        return self.repos[kind, name]

    def hang(self, part: str, times: int = 1) -> None:
        """Never answer."""
        self._faults.append(Fault(part, times, hang=True))

    def fault(self, path: str) -> Fault | None:
        """The fault that is due for this path, used up by one."""
        for fault in self._faults:
            if fault.part in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    # What the requests do. Each gets the match of its path, the query and the body.

    def create(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        wish = json.loads(body)
        owner = wish.get("organization") or USER
        key = (wish.get("type", "model"), f"{owner}/{wish['name']}")
        url = f"{self.url}/{'datasets/' if key[0] == 'dataset' else ''}{key[1]}"
        if owner != USER:
            raise Refused(403, f"You don't have the rights to create a repo under {owner}.")
        if key in self.repos:
            raise Refused(409, "You already created this repo", url=url)
        self.add_repo(*key, private=wish.get("visibility") == "private")
        return {"url": url}

    def whoami(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        return {"name": USER, "type": "user", "orgs": []}

    def validate(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        found = re.match(r"---\n(.*?)\n---", json.loads(body)["content"], re.DOTALL)
        try:
            valid = isinstance(yaml.safe_load(found[1] if found else "{}"), dict)
        except yaml.YAMLError:
            valid = False
        if not valid:
            raise Refused(400, "Invalid card", errors=[{"message": "front matter is no mapping"}])
        return {"errors": [], "warnings": []}

    def repo(self, match: re.Match[str]) -> Repo:
        kind = "dataset" if match["type"].startswith("dataset") else "model"
        repo = self.repos.get((kind, match["id"]))
        if repo is None or (repo.private and not _is_own(match)):
            raise Refused(404, "Repository not found", code="RepoNotFound")
        return repo

    def own(self, match: re.Match[str]) -> Repo:
        repo = self.repo(match)
        if not _is_own(match):
            raise Refused(403, f"You don't have the rights to write to {match['id']}.")
        return repo

    def branch(self, match: re.Match[str]) -> dict[str, tuple[bytes, bool]]:
        branches = self.repo(match).branches
        revision = unquote(match.groupdict().get("revision") or "main")
        for name, files in branches.items():
            if revision in (name, _commit_id(files)):
                return files
        raise Refused(404, "Revision not found", code="RevisionNotFound")

    def info(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        files = self.branch(match)
        siblings = [{"rfilename": path} for path in files]
        is_private = self.repo(match).private
        return {
            "id": match["id"], "private": is_private, "sha": _commit_id(files),
            "siblings": siblings, "tags": [], "downloads": 0, "likes": 0,
        }  # fmt: skip

    def make_branch(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        branches = self.own(match).branches
        if unquote(match["new"]) in branches:
            raise Refused(409, "Reference already exists")
        branches[unquote(match["new"])] = dict(branches["main"])
        return {}

    def preupload(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        self.own(match)
        files = self.branch(match)
        answers = []
        for wish in json.loads(body)["files"]:
            path = wish["path"]
            mode = "lfs" if path.endswith(LFS_SUFFIXES) or wish["size"] > 10_000_000 else "regular"
            oid = _oid(*files[path]) if path in files else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    def batch(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        answers = []
        for wish in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.url}/lfs/{wish['oid']}"}}
            answers.append(wish if wish["oid"] in self.lfs else {**wish, "actions": upload})
        return {"transfer": "basic", "objects": answers}

    def put(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        if hashlib.sha256(body).hexdigest() != match["oid"]:
            raise Refused(400, "The content has another hash")
        self.lfs[match["oid"]] = body
        return {}

    def commit(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        if self.before_commit:
            self.before_commit()
            self.before_commit = None
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(self.branch(match))
        lines = [json.loads(line) for line in body.splitlines()]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.lfs:
                    raise Refused(400, f"{value['path']} was never uploaded")
                files[value["path"]] = (self.lfs[value["oid"]], True)
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repo = self.own(match)
        repo.branches[unquote(match["revision"])] = files
        repo.commits.append({"header": lines[0]["value"], "operations": lines[1:]})
        oid = _commit_id(files)
        url = f"{self.url}/{'datasets/' if match['type'] == 'dataset' else ''}{match['id']}"
        return {"commitUrl": f"{url}/commit/{oid}", "commitOid": oid, "success": True}

    def tree(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        files = sorted(self.branch(match).items())
        start = int(query.get("cursor", 0))
        page = [
            {"type": "file", "path": path, "size": len(content), **_identity(content, lfs)}
            for path, (content, lfs) in files[start : start + self.page_size]
        ]
        more = start + self.page_size < len(files)
        after = f"{self.url}{match.string}?recursive=True&cursor={start + self.page_size}"
        return page, ({"Link": f'<{after}>; rel="next"'} if more else {})

    def resolve(self, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
        files = self.branch(match)
        path = unquote(match["path"])
        if path not in files:
            raise Refused(404, "Entry not found", code="EntryNotFound")
        headers = {"ETag": f'"{_oid(*files[path])}"', "X-Repo-Commit": _commit_id(files)}
        return files[path][0], headers


ROUTES = [
    ("POST", "/api/repos/create", HubServer.create),
    ("POST", "/api/validate-yaml", HubServer.validate),
    ("GET", "/api/whoami-v2", HubServer.whoami),
    ("GET", API, HubServer.info),
    ("GET", API + "/revision/(?P<revision>[^/]+)", HubServer.info),
    ("GET", API + "/tree/(?P<revision>[^/]+)", HubServer.tree),
    ("POST", API + "/branch/(?P<new>[^/]+)", HubServer.make_branch),
    ("POST", API + "/preupload/(?P<revision>[^/]+)", HubServer.preupload),
    ("POST", API + "/commit/(?P<revision>[^/]+)", HubServer.commit),
    ("POST", rf"/(datasets/|){NAME}\.git/info/lfs/objects/batch", HubServer.batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", HubServer.put),
    ("GET", RESOLVE, HubServer.resolve),
]
WITHOUT_TOKEN = ("/api/validate-yaml", "/lfs/")  # what a PUT may do is in its address


def _oid(content: bytes, lfs: bool) -> str:
    """sha256 of LFS content; git's hash of a blob otherwise."""
    if lfs:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _identity(content: bytes, lfs: bool) -> dict[str, Any]:
    """The hashes of a file as a listing has them: git knows an LFS file by its pointer."""
    if not lfs:
        return {"oid": _oid(content, False)}
    sha256 = _oid(content, True)
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n"
    )
    about = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
    return {"oid": _oid(pointer.encode(), False), "lfs": about}


def _is_own(match: re.Match[str]) -> bool:
    return match["id"].startswith(f"{USER}/")


def _commit_id(files: dict[str, tuple[bytes, bool]]) -> str:
    state = json.dumps(sorted((path, _oid(*file)) for path, file in files.items()))
    return hashlib.sha1(state.encode()).hexdigest()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            self.answer()

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

        def answer(self) -> None:
            hub.requests.append((self.command, self.path))
            fault = hub.fault(self.path)
            if fault and fault.midway:
                self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
                return self.hang_up()
            body = self.read_body()
            if fault and fault.hang:
                hub.stopping.wait(30)
            elif fault and fault.status:
                return self.send(fault.status, fault.body, fault.headers)
            answer = (0, b"", {}) if fault and not fault.after else self.handled(body)
            return self.hang_up() if fault else self.send(*answer)

        def hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def handled(self, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            method = "GET" if self.command == "HEAD" else self.command
            for old, new in hub.moved.items():
                before = re.fullmatch(rf"(/api/datasets|/datasets)/{old}(/.*)?", url.path)
                if before:
                    place = f"{before[1]}/{new}{before[2] or ''}"
                    return 307, b"", {"Location": place + (f"?{url.query}" if url.query else "")}
            try:
                for verb, pattern, function in ROUTES:
                    match = re.fullmatch(pattern, url.path)
                    if match and verb == method:
                        self.check_token(url.path)
                        result = function(hub, match, query, body)
                        value, headers = result if isinstance(result, tuple) else (result, {})
                        data = value if isinstance(value, bytes) else json.dumps(value).encode()
                        return 200, data, headers
                raise Refused(404, f"No such address: {url.path}")
            except Refused as refused:
                headers = {"X-Error-Message": str(refused)}
                headers |= {"X-Error-Code": refused.code} if refused.code else {}
                return refused.status, json.dumps(refused.body).encode(), headers

        def check_token(self, path: str) -> None:
            given = self.headers.get("Authorization")
            if given is None and self.command in ("GET", "HEAD"):
                found = re.match(r"/api/(\w+)s/([^/]+/[^/]+)", path)
                repo = hub.repos.get((found[1], found[2])) if found else None
                if repo is None or repo.private:
                    raise Refused(401, "Invalid username or password.", code="RepoNotFound")
                return
            if given != f"Bearer {hub.token}" and not path.startswith(WITHOUT_TOKEN):
                # As some servers do, repeat what was sent: the client must not show it.
                raise Refused(401, f"Invalid credentials: {given}")

        def send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler
