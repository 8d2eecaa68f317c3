"""The manifest: any difference between folder and list is found and named."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from token_service import manifest
from token_service.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path


def test_demo_model_matches_its_manifest(demo: Path) -> None:
    """The committed files are the described ones, and fit into 4 MB."""
    assert sum(entry.size for entry in manifest.verify(demo)) < 4_000_000


def test_writing_is_reproducible(folder: Path) -> None:
    """Describing an unchanged folder gives the same bytes."""
    before = (folder / manifest.NAME).read_bytes()
    manifest.write(folder)
    assert (folder / manifest.NAME).read_bytes() == before


def test_changed_byte_is_named_with_both_hashes(folder: Path) -> None:
    """One flipped bit in the weights stops the start; the message shows seen and expected SHA-256."""
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    expected = hashlib.sha256(data).hexdigest()
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(StartError) as caught:
        manifest.verify(folder)
    text = str(caught.value)
    assert str(weights) in text
    assert expected in text
    assert hashlib.sha256(data).hexdigest() in text
    assert "--write" in text


def test_missing_file_is_named(folder: Path) -> None:
    """A listed file must exist."""
    (folder / "tokenizer.json").unlink()
    with pytest.raises(StartError, match=r"tokenizer\.json is missing"):
        manifest.verify(folder)


def test_unlisted_file_is_named(folder: Path) -> None:
    """Transformers would read an extra file, so nobody may slip one in; notes in Markdown are free."""
    (folder / "notes.md").write_text("free")
    manifest.verify(folder)
    (folder / "added_tokens.json").write_text("{}")
    with pytest.raises(StartError, match=r"added_tokens\.json is not listed"):
        manifest.verify(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "other", "files": []}',
        '{"format": "slipway-model-manifest/1", "files": []}',
        '{"format": "slipway-model-manifest/1", "files": [{"path": "x"}]}',
        '{"format": "slipway-model-manifest/1", "files": [{"path": "../x", "sha256": "", "size": 0}]}',
    ],
)
def test_malformed_manifest_is_refused(folder: Path, text: str) -> None:
    """Whatever the file holds, the answer is one message that names it."""
    (folder / manifest.NAME).write_text(text)
    with pytest.raises(StartError, match=r"manifest\.json"):
        manifest.verify(folder)


def test_absent_manifest_says_how_to_write_one(folder: Path) -> None:
    """The message holds the command."""
    (folder / manifest.NAME).unlink()
    with pytest.raises(StartError, match=r"python -m token_service\.manifest --write"):
        manifest.verify(folder)


def test_command_line_writes_then_verifies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 0 for a good folder, 1 and a message for a bad one."""
    (folder / "config.json").write_text(json.dumps({"changed": True}))
    assert manifest.main([str(folder)]) == 1
    assert "config.json" in capsys.readouterr().err
    assert manifest.main(["--write", str(folder)]) == 0
    assert manifest.main([str(folder)]) == 0
