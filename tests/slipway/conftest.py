"""Upstreams of the tests' own, over HTTP on this machine, which can misbehave: an apt repository, a Python index."""

from __future__ import annotations

import base64
import gzip
import hashlib
import subprocess
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slipway import paths
from slipway.deb import Archive, Mirrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUITES = {"debian": ["stable", "stable-updates"], "debian-security": ["stable-security"]}


@dataclass
class Repository:
    """The repository and how it behaves.

    Attributes:
        root: Folder that is served.
        port: Port on 127.0.0.1.
        truncate: Path endings whose answers break off half-way.
        packages: Index stanzas per archive.
    """

    root: Path
    port: int = 0
    truncate: set[str] = field(default_factory=set)
    packages: dict[str, list[str]] = field(default_factory=lambda: {"debian": [], "debian-security": []})

    @property
    def mirrors(self) -> Mirrors:
        """Addresses of the two archives."""
        base = f"http://127.0.0.1:{self.port}"
        return Mirrors(f"{base}/debian/", f"{base}/debian-security/")

    def add(
        self, name: str, version: str = "1.0-1", depends: str = "", archive: str = "debian", text: str = ""
    ) -> Path:
        """Build a .deb that installs one file and put it into an archive."""
        tree = self.root.parent / f"build-{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / f"usr/share/doc/{name}").mkdir(parents=True)
        (tree / f"usr/share/doc/{name}/copyright").write_text(f"licence of {name}\n")
        (tree / "usr/bin").mkdir()
        (tree / f"usr/bin/{name}").write_text(text or f"#!/bin/sh\necho {name}\n")
        rows = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "Test <t@example.org>"}
        rows |= {"Depends": depends} if depends else {}
        control = "".join(f"{key}: {value}\n" for key, value in rows.items())
        (tree / "DEBIAN/control").write_text(control + "Description: test\n")
        file = f"pool/{name}_{version.rsplit(':', maxsplit=1)[-1]}_amd64.deb"
        path = self.root / archive / file
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(path)], check=True, capture_output=True)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        stanza = f"Filename: {file}\nSize: {path.stat().st_size}\nSHA256: {digest}\nDescription: test\n"
        self.packages[archive].append(control + stanza)
        self.publish()
        return path

    def publish(self) -> None:
        """Write the indexes of all suites."""
        for archive, suites in SUITES.items():
            for suite in suites:
                text = "\n".join(self.packages[archive]) if not suite.endswith("-updates") else ""
                self._publish_suite(self.root / archive / "dists" / suite, suite, text)

    def _publish_suite(self, folder: Path, suite: str, text: str) -> None:
        data = {"main/binary-amd64/Packages": text.encode()}
        data["main/binary-amd64/Packages.gz"] = gzip.compress(text.encode(), mtime=0)
        rows = []
        for name, content in data.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
            rows.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}")
        head = f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
        (folder / "Release").write_text(head + f"Date: {formatdate(usegmt=True)}\nSHA256:\n" + "\n".join(rows) + "\n")

    def archive(self, tmp_path: Path, retries: int = 0) -> Archive:
        """Return an `Archive` on this repository that trusts it without a signature."""
        return Archive(
            "stable",
            root=tmp_path / "apt",
            cache=tmp_path / "debs",
            mirrors=self.mirrors,
            timeout=2,
            retries=retries,
            trusted="trusted=yes",
        )


@dataclass
class PythonIndex:
    """A Python index in the simple repository format.

    Attributes:
        root: Folder that is served.
        port: Port on 127.0.0.1.
        truncate: Path endings whose answers break off half-way.
    """

    root: Path
    port: int = 0
    truncate: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Address to give to pip."""
        return f"http://127.0.0.1:{self.port}/simple"

    def add(self, name: str, version: str = "1.0", files: dict[str, str] | None = None, **metadata: str) -> Path:
        """Make a pure wheel and put it on the index; `requires` and `entry_points` are lines separated by newlines."""
        folder = self.root / "simple" / name
        folder.mkdir(parents=True, exist_ok=True)
        path = make_wheel(folder, name, version, files, **metadata)
        self.publish(name)
        return path

    def publish(self, name: str) -> None:
        """Write the page that lists a project's files."""
        folder = self.root / "simple" / name
        links = [f'<a href="{path.name}">{path.name}</a>' for path in sorted(folder.glob("*.whl"))]
        (folder / "index.html").write_text("<!DOCTYPE html><html><body>" + "<br>".join(links) + "</body></html>")


def make_wheel(  # noqa: PLR0913 - each has a default; tests name the one they need
    folder: Path,
    name: str,
    version: str = "1.0",
    files: dict[str, str] | None = None,
    *,
    requires: str = "",
    entry_points: str = "",
    extras: str = "",
) -> Path:
    """Write a pure wheel; a path in `files` may start with `DATA/` for the .data directory."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = [f"Requires-Dist: {line}\n" for line in requires.splitlines()]
    lines += [f"Provides-Extra: {extra}\n" for extra in extras.split()]
    rows = {
        f"{name.replace('-', '_')}/__init__.py": f"version = {version!r}\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
        "Summary: made by a test\nLicense-Expression: MIT\n" + "".join(lines),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/licenses/LICENSE": "permission is granted\n",
    }
    if entry_points:
        rows[f"{stem}.dist-info/entry_points.txt"] = f"[console_scripts]\n{entry_points}\n"
    rows |= {path.replace("DATA/", f"{stem}.data/"): text for path, text in (files or {}).items()}
    digests = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in rows.items()
    ]
    rows[f"{stem}.dist-info/RECORD"] = "\n".join([*digests, f"{stem}.dist-info/RECORD,,"]) + "\n"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in rows.items():
            archive.writestr(path, text)
    return wheel


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: object, upstream: Repository | PythonIndex, **options: object) -> None:
        self._upstream = upstream
        super().__init__(*args, directory=str(upstream.root), **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Serve a file, or the first half of one that is to break off."""
        if not any(self.path.endswith(end) for end in self._upstream.truncate):
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay silent."""


@contextmanager
def _serve(upstream: Repository | PythonIndex) -> Iterator[None]:
    upstream.root.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, upstream=upstream))
    upstream.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A served, empty apt repository."""
    found = Repository(tmp_path / "served-debs")
    with _serve(found):
        found.publish()
        yield found


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PythonIndex]:
    """A served, empty Python index, which pip uses alone; the product's caches are the test's own."""
    found = PythonIndex(tmp_path / "served-wheels")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "CHANNEL", tmp_path / "channel")
    with _serve(found):
        monkeypatch.setenv("PIP_INDEX_URL", found.url)
        yield found


@pytest.fixture
def wheel_maker() -> Callable[..., Path]:
    """The function that makes wheels, for tests that need no index."""
    return make_wheel
