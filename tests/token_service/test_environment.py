"""The check of the environment, on the real one and on copies that were damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from token_service import environment

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "locks" / "token-service.linux-64.txt"
Check = Callable[..., "subprocess.CompletedProcess[str]"]


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A copy of the locked environment, by hard links: replace files, do not write into them."""
    target = tmp_path / "env"
    shutil.copytree(sys.base_prefix, target, copy_function=_link, symlinks=True)
    (target / environment.LOCK).unlink(missing_ok=True)
    shutil.copyfile(LOCK, target / environment.LOCK)
    return target


def _site(prefix: Path) -> Path:
    return prefix / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _run(prefix: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the check with the environment's own Python, as the service does."""
    return subprocess.run(
        [str(prefix / "bin" / "python"), "-m", "token_service.environment", *words],
        env={"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _rewrite(prefix: Path, name: str, **changes: str) -> None:
    """Change fields of a package's record."""
    (record,) = (prefix / "conda-meta").glob(f"{name}-[0-9]*.json")
    row = json.loads(record.read_text()) | changes
    record.unlink()
    record.write_text(json.dumps(row))


def test_locked_environment_passes(prefix: Path) -> None:
    """The lock beside the records is the default; the answer says how much was checked."""
    done = _run(prefix)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{len(environment.read(LOCK))} packages and Python 3.11.")


def test_every_package_of_the_lock_can_be_imported(prefix: Path) -> None:
    """With --imports, for real and one by one."""
    bytecode = {"PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX", ""), "PYTHONDONTWRITEBYTECODE": ""}
    done = _run(prefix, "--imports", **bytecode)
    assert (done.returncode, done.stderr) == (0, "")
    assert "imported" in done.stdout


def test_another_version_is_named_with_both(prefix: Path) -> None:
    """The record of a package that somebody replaced."""
    _rewrite(prefix, "orjson", version="0.0.1")
    done = _run(prefix)
    assert done.returncode == 1
    assert done.stderr.startswith("orjson: 0.0.1 ")
    assert f" seen, {_locked('orjson').identity} wanted" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_another_file_of_the_same_version_is_named(prefix: Path) -> None:
    """Same version and build, other bytes."""
    _rewrite(prefix, "orjson", sha256="0" * 64)
    assert f"{'0' * 64} seen, {_locked('orjson').sha256} wanted" in _run(prefix).stderr


def test_distribution_that_disagrees_with_its_record_is_named(prefix: Path) -> None:
    """What `pip install` into the environment leaves behind."""
    (folder,) = _site(prefix).glob("orjson-*.dist-info")
    metadata = (folder / "METADATA").read_text()
    (folder / "METADATA").unlink()
    (folder / "METADATA").write_text(metadata.replace(f"Version: {_locked('orjson').version}", "Version: 0.0.1"))
    assert f"orjson: distribution orjson 0.0.1 seen, {_locked('orjson').version} wanted" in _run(prefix).stderr


def test_missing_module_is_named(prefix: Path) -> None:
    """The record says that it is there, and it is not."""
    (_site(prefix) / "typing_extensions.py").unlink()
    assert _run(prefix).stderr == (
        f"typing_extensions {_locked('typing_extensions').version}: module typing_extensions is missing\n"
    )


def test_module_of_a_stranger_is_named(prefix: Path, tmp_path: Path) -> None:
    """A file earlier on the path hides the package."""
    (tmp_path / "orjson.py").touch()
    done = _run(prefix, PYTHONPATH=f"{tmp_path}:{ROOT / 'src'}")
    assert f"module orjson comes from {tmp_path / 'orjson.py'}, not from the environment" in done.stderr


def test_package_that_breaks_at_import_is_named(prefix: Path) -> None:
    """The fast part cannot see it, the imports do."""
    target = _site(prefix) / "shellingham" / "__init__.py"
    target.unlink()
    target.write_text("raise OSError('no such thing')\n")
    assert _run(prefix).returncode == 0
    done = _run(prefix, "--imports")
    assert done.returncode == 1
    assert "shellingham" in done.stderr
    assert "import shellingham fails: OSError: no such thing" in done.stderr


def test_missing_and_additional_packages_are_named(prefix: Path) -> None:
    """Both directions: locked and not there, there and not locked."""
    (record,) = (prefix / "conda-meta").glob("rich-*.json")
    row = json.loads(record.read_text()) | {"name": "extra", "files": []}
    record.unlink()
    (prefix / "conda-meta" / "extra-1-0.json").write_text(json.dumps(row))
    assert _run(prefix).stderr.splitlines() == [
        f"extra: {row['version']} seen, which is not locked",
        f"rich: not installed, {_locked('rich').identity} wanted",
    ]


def test_another_python_is_named(tmp_path: Path) -> None:
    """The interpreter that runs counts, whatever the records say."""
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK.read_text().replace("/python-3.11.2-", "/python-3.11.999-"))
    found = environment.check(lock, Path(sys.base_prefix))
    assert [line for line in found if line.startswith("python: 3.11.2 runs, 3.11.999 wanted")]


@pytest.mark.parametrize("text", ["", "@EXPLICIT\n", "<html>\n", "@EXPLICIT\nhttp://host/noarch/nothing\n"])
def test_file_that_is_no_lock_is_refused(text: str, tmp_path: Path) -> None:
    """An empty lock must not count as an environment without packages."""
    lock = tmp_path / "lock.txt"
    lock.write_text(text)
    (found,) = environment.check(lock, Path(sys.base_prefix))
    assert str(lock) in found


def _locked(name: str) -> environment.Package:
    return next(package for package in environment.read(LOCK) if package.name == name)
