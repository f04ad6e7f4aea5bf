"""A hub on this machine: as much of Hugging Face's HTTP as reading data takes, over repositories in memory.

A repository is a list of commits, each a mapping of paths to bytes; `main` is the last. Files that are large there
(`lfs` in a listing) are so here too, and a listing comes in pages. Every request is counted by what it asks for.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 4096
"""Bytes from which a file is stored apart."""
PAGE = 3
"""Entries of a page; the real one has 1,000."""
WHERE = re.compile(
    r"(?P<api>/api)?/(?:(?P<kind>datasets|models)/)?(?P<repo>[^/]+/[^/]+)"
    r"(?:/(?P<what>revision|tree|paths-info|resolve)/(?P<revision>[^/]+)(?:/(?P<path>.*))?)?$"
)


def sha1(*parts: bytes) -> str:
    return hashlib.sha1(b"\0".join(parts)).hexdigest()


class Hub(ThreadingHTTPServer):
    """`repositories`: `datasets/ORG/NAME` or `models/ORG/NAME` -> its commits, the oldest first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.asked: Counter[str] = Counter()
        self.refuse: list[int] = []
        """Statuses that the next requests are answered with; 0 lets one through."""
        self.gated: set[str] = set()
        """Repositories that anyone may list, and whose files are for those who accepted their terms."""
        self.token: str | None = None
        """Where one is named, requests without it are told that there is nothing."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str, files: Mapping[str, bytes]) -> str:
        """Add a commit that has these files and no others; its 40 hex digits."""
        self.repositories.setdefault(name, []).append(dict(files))
        return self.commits(name)[-1]

    def commits(self, name: str) -> list[str]:
        """Of every commit its name, which depends on all before it."""
        names, before = [], b""
        for files in self.repositories[name]:
            before = sha1(before, *(part for path, data in sorted(files.items()) for part in (path.encode(), data)))
            names.append(before)
            before = before.encode()
        return names

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A revision's commit and files; None where there is no such revision."""
        commits = self.commits(name)
        for commit, files in zip(commits, self.repositories[name], strict=True):
            if revision == commit or (revision == "main" and commit == commits[-1]):
                return commit, files
        return None


def entry(path: str, data: bytes) -> dict[str, object]:
    """A file as listings have it."""
    told: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": sha1(data)}
    if len(data) >= LARGE:
        told["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return told


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        match = WHERE.fullmatch(unquote(url.path))
        with self.server.lock:
            self.server.asked[match["what"] or "repository" if match else "unknown"] += 1
            refused = self.server.refuse.pop(0) if self.server.refuse else None
        if refused:
            self.answer(refused, {"error": "told to"})
            return
        name = f"{match['kind'] or 'models'}/{match['repo']}" if match else ""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if match is None or name not in self.server.repositories or self.server.token not in (None, token):
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        found = self.server.files(name, match["revision"] or "main")
        if found is None:
            self.answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        commit, files = found
        path = match["path"] or ""
        if match["what"] == "resolve" and name in self.server.gated:
            self.answer(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        elif match["what"] == "resolve":
            self.give(commit, files, path)
        elif match["what"] == "tree":
            self.list(files, path, {key: values[0] for key, values in parse_qs(url.query).items()})
        elif match["what"] == "paths-info":
            asked = json.loads(body)["paths"]
            self.answer(200, [entry(path, files[path]) for path in asked if path in files])
        else:
            self.answer(200, {"id": match["repo"], "sha": commit, "private": False, "tags": [], "siblings": []})

    do_GET = do_HEAD = do_POST = do

    def list(self, files: Mapping[str, bytes], folder: str, asked: Mapping[str, str]) -> None:
        below = {path: data for path, data in files.items() if not folder or path.startswith(f"{folder}/")}
        if not below:
            self.answer(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
            return
        folders = {"/".join(path.split("/")[:n]) for path in below for n in range(1, path.count("/") + 1)}
        entries = [{"type": "directory", "path": f, "size": 0, "oid": sha1(f.encode())} for f in sorted(folders)]
        entries = [e for e in entries if str(e["path"]) != folder and not f"{folder}/".startswith(f"{e['path']}/")]
        entries += [entry(path, data) for path, data in sorted(below.items())]
        if asked.get("recursive", "false").lower() != "true":
            depth = folder.count("/") + 1 if folder else 0
            entries = [e for e in entries if str(e["path"]).count("/") == depth]
        start = int(asked.get("cursor", 0))
        headers = {}
        if start + PAGE < len(entries):
            query = "&".join(f"{key}={value}" for key, value in (dict(asked) | {"cursor": str(start + PAGE)}).items())
            headers["Link"] = f'<{self.server.url}{urlsplit(self.path).path}?{query}>; rel="next"'
        self.answer(200, entries[start : start + PAGE], headers)

    def give(self, commit: str, files: Mapping[str, bytes], path: str) -> None:
        if path not in files:
            self.answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        data, status, headers = files[path], 200, {"X-Repo-Commit": commit, "ETag": f'"{sha1(files[path])}"'}
        stretch = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if stretch:
            start, stop = int(stretch[1]), min(int(stretch[2] or len(data) - 1) + 1, len(data))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            data, status = data[start:stop], 206
        self.send(status, data, {"Content-Type": "application/octet-stream"} | headers)

    def answer(self, status: int, said: object, headers: Mapping[str, str] | None = None) -> None:
        self.send(status, json.dumps(said).encode(), {"Content-Type": "application/json", **(headers or {})})

    def send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
