"""A small Hub on the loopback interface: a real HTTP server that speaks the protocol's parts that are used.

Creating, listing, uploading (regular files and LFS), committing, tagging and downloading, with a token, kept
in memory. It can be told to break down, as networks do.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopback"
LARGE = (".safetensors", ".parquet", ".png")


class LoopbackHub(ThreadingHTTPServer):
    """The server and what it holds; `repos` maps (kind, owner/name) to a dictionary."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[tuple[str, str], dict] = {}
        self.objects: dict[str, bytes] = {}
        self.log: list[tuple[str, str]] = []
        self.commits_until_failure: int | None = None
        self.address = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def writes(self) -> list[str]:
        """Paths of the requests that can change something."""
        return [path for method, path in self.log if method in ("POST", "PUT")]


class Handler(BaseHTTPRequestHandler):
    server: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def reply(self, status: int, body: object = None, headers: dict | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_request(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.log.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, {"error": "Invalid username or password."})
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if method == self.command and match:
                return action(self, body, **match.groupdict())
        return self.reply(404, {"error": f"no route {path}"}, {"X-Error-Code": "EntryNotFound"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def repo(self, kind: str, name: str) -> dict | None:
        found = self.server.repos.get((kind, name))
        if found is None:
            self.reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        return found

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        prefix = "" if kind == "model" else f"{kind}s/"
        answer = {"url": f"{self.server.address}/{prefix}{name}", "name": name}
        if (kind, name) in self.server.repos:
            return self.reply(409, {"error": "You already created this repo", **answer})
        private = asked.get("private", asked.get("visibility") == "private")
        self.server.repos[kind, name] = {
            "private": private,
            "files": {},
            "tags": {},
            "commits": [],
            "asked": asked,
        }
        return self.reply(200, answer)

    def info(self, body: bytes, kind: str, name: str) -> None:
        if (repo := self.repo(kind, name)) is not None:
            siblings = [{"rfilename": path} for path in repo["files"]]
            self.reply(200, {"id": name, "private": repo["private"], "sha": head(repo), "siblings": siblings})

    def tree(self, body: bytes, kind: str, name: str) -> None:
        if (repo := self.repo(kind, name)) is None:
            return None
        entries = []
        for path, (content, is_large) in repo["files"].items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
            if is_large:
                sha = hashlib.sha256(content).hexdigest()
                entry |= {"oid": "0" * 40, "lfs": {"oid": sha, "size": len(content), "pointerSize": 134}}
            entries.append(entry)
        return self.reply(200, entries)

    def preupload(self, body: bytes, kind: str, name: str) -> None:
        if self.repo(kind, name) is not None:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.reply(200, {"files": files})

    def lfs_batch(self, body: bytes, name: str) -> None:
        objects = []
        for asked in json.loads(body)["objects"]:
            entry = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server.objects:
                entry["actions"] = {"upload": {"href": f"{self.server.address}/lfs/{asked['oid']}"}}
            objects.append(entry)
        self.reply(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.reply(400, {"error": "the content does not match its hash"})
        self.server.objects[oid] = body
        return self.reply(200)

    def commit(self, body: bytes, kind: str, name: str) -> None:
        if (repo := self.repo(kind, name)) is None:
            return None
        if self.server.commits_until_failure is not None:
            self.server.commits_until_failure -= 1
            if self.server.commits_until_failure < 0:
                return self.reply(500, {"error": "the disk is full"})
        changed = []
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                repo["files"][value["path"]] = (base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                repo["files"][value["path"]] = (self.server.objects[value["oid"]], True)
            if item["key"] != "header":
                changed.append(value["path"])
        repo["commits"].append(changed)
        address = f"{self.server.address}/{name}/commit/{head(repo)}"
        return self.reply(200, {"commitUrl": address, "commitOid": head(repo), "success": True})

    def tag(self, body: bytes, kind: str, name: str) -> None:
        if (repo := self.repo(kind, name)) is None:
            return None
        tag = json.loads(body)["tag"]
        if tag in repo["tags"]:
            return self.reply(409, {"error": "Tag already exists"})
        repo["tags"][tag] = head(repo)
        return self.reply(200)

    def check_card(self, body: bytes) -> None:
        self.reply(200, {"errors": [], "warnings": []})

    def resolve(self, body: bytes, name: str, file: str, revision: str, kinds: str | None = None) -> None:
        if (repo := self.repo((kinds or "models/")[:-2], name)) is None:
            return None
        if file not in repo["files"]:
            return self.reply(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content = repo["files"][file][0]
        return self.reply(200, content, {"X-Repo-Commit": head(repo), "ETag": f'"{git_hash(content)}"'})


def head(repo: dict) -> str:
    return hashlib.sha1(repr(repo["commits"]).encode()).hexdigest()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


REPO = r"/api/(?P<kind>model|dataset|space)s/(?P<name>[^/]+/[^/]+)"
ROUTES = [
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.check_card),
    ("GET", REPO + r"(/revision/[^/]+)?", Handler.info),
    ("GET", REPO + r"/tree/[^/]+", Handler.tree),
    ("POST", REPO + r"/preupload/[^/]+", Handler.preupload),
    ("POST", REPO + r"/commit/[^/]+", Handler.commit),
    ("POST", REPO + r"/tag/[^/]+", Handler.tag),
    ("POST", r"/(datasets/|spaces/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", Handler.lfs_put),
    *(
        (
            method,
            r"/(?P<kinds>datasets/|spaces/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)",
            Handler.resolve,
        )
        for method in ("GET", "HEAD")
    ),
]
