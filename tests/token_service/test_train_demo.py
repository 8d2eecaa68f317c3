"""The script that trained the demo model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _train(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "models" / "train_demo.py"), "--out", str(out), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def stdlib(tmp_path: Path) -> Path:
    """A small standard library: the topics and one module with docstrings."""
    source, target = Path(sysconfig.get_path("stdlib")), tmp_path / "stdlib"
    (target / "pydoc_data").mkdir(parents=True)
    for name in ("pydoc_data/topics.py", "argparse.py"):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def test_training_twice_gives_the_same_bytes(stdlib: Path, tmp_path: Path) -> None:
    """A few steps, twice: every file equal, so the committed model can be made again."""
    manifests = []
    for name in ("first", "second"):
        done = _train(tmp_path / name, "--steps", "2", "--rows", "1", "--any-corpus", "--stdlib", str(stdlib))
        assert done.returncode == 0, done.stderr
        manifests.append(json.loads((tmp_path / name / "manifest.json").read_text()))
    assert manifests[0] == manifests[1]
    assert {"model.safetensors", "tokenizer.json"} < {entry["path"] for entry in manifests[0]["files"]}


def test_other_text_is_refused(stdlib: Path, tmp_path: Path) -> None:
    """Training on another text than the recorded one must be asked for."""
    done = _train(tmp_path / "out", "--stdlib", str(stdlib))
    assert done.returncode != 0
    assert "--any-corpus" in done.stderr
    assert not (tmp_path / "out").exists()
