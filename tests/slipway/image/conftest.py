"""A checkout in miniature: hierarchy, Dockerfiles and locks in a scratch folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway import paths

if TYPE_CHECKING:
    from pathlib import Path

HIERARCHY = """\
images:
  base:
    kind: rootfs
    debs: [libc6]
  builder:
    parent: base
    kind: build
  service:
    parent: base
    kind: service
    environment: service
    application: app
"""

_DEB = {"version": "1", "arch": "amd64", "archive": "main", "filename": "pool/l/libc6_1_amd64.deb", "size": 1}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a scratch checkout that `slipway.paths` points to."""
    for name, place in {"ROOT": "", "STATE": ".slipway", "CACHE": ".slipway/cache", "LOCKS": "locks"}.items():
        monkeypatch.setattr(paths, name, tmp_path / place)
    monkeypatch.setattr(paths, "IMAGES", tmp_path / "images")
    monkeypatch.setattr(paths, "CHANNEL", tmp_path / ".slipway/channel")
    for image in ("base", "builder", "service"):
        (tmp_path / "images" / image).mkdir(parents=True)
        (tmp_path / "images" / image / "Dockerfile").write_text("FROM parent\n")
    (tmp_path / "images/shared").mkdir()
    (tmp_path / "images/shared/install-debs").write_text("#!/bin/sh\n")
    (tmp_path / "images/hierarchy.yml").write_text(HIERARCHY)
    (tmp_path / "src/app").mkdir(parents=True)
    (tmp_path / "src/app/main.py").write_text("print(1)\n")
    write_locks(tmp_path / "locks")
    return tmp_path


def write_locks(folder: Path, *, deb: str = "a" * 64, package: str = "b" * 64) -> None:
    """Write locks of one Debian package and one conda package with these checksums."""
    folder.mkdir(exist_ok=True)
    row = ", ".join(f"{key}: {value!r}" for key, value in {"name": "libc6", "sha256": deb, **_DEB}.items())
    (folder / "images.yml").write_text(f"images:\n  base:\n  - {{{row}}}\n")
    (folder / "service.lock").write_text("version: 7\n")
    line = f"http://127.0.0.1:8081/slipway/noarch/x-1-0.conda#sha256:{package}\n"
    (folder / "service.linux-64.txt").write_text(f"@EXPLICIT\n{line}")
