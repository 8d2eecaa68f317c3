"""The installed environment: Debian's Python behaves as upstream's, and its packages are what conda-meta says."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from slipway import paths
from slipway.channel.ensure import ensure_channel
from slipway.dev import update_environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.apt, pytest.mark.index]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The token service's environment at a path of its own, installed from the locked channel."""
    ensure_channel("fail")
    target = tmp_path_factory.mktemp("prefix") / "env"
    update_environment("token-service", target)
    return target


def _python(prefix: Path, code: str) -> Any:  # noqa: ANN401 - whatever the code prints as JSON
    """Run `code` in the environment, with nothing inherited, and return the JSON it prints."""
    done = subprocess.run(
        [str(prefix / "bin/python"), "-W", "ignore", "-c", f"import json\n{code}"],
        capture_output=True,
        text=True,
        # setuptools puts its own distutils in the way otherwise.
        env={"PATH": "/usr/bin:/bin", "HOME": str(prefix.parent), "SETUPTOOLS_USE_DISTUTILS": "stdlib"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_paths_are_upstreams(prefix: Path) -> None:
    """site-packages is the only folder for packages, for site, sysconfig and sys.path alike."""
    seen = _python(
        prefix,
        "import site, sys, sysconfig, distutils.sysconfig as old\n"
        "print(json.dumps([site.getsitepackages(), sysconfig.get_paths(), sys.path[1:], sys.prefix,"
        " sysconfig.get_config_var('LIBDIR'), sysconfig.get_default_scheme(), old.get_python_lib(),"
        " sysconfig.get_scheme_names(), site.__file__]))",
    )
    lib = f"{prefix}/lib/python3.11"
    assert seen[0] == [f"{lib}/site-packages"]
    assert {seen[1]["purelib"], seen[1]["platlib"], seen[6]} == {f"{lib}/site-packages"}
    assert (seen[1]["scripts"], seen[1]["data"]) == (f"{prefix}/bin", str(prefix))
    assert seen[2] == [f"{prefix}/lib/python311.zip", lib, f"{lib}/lib-dynload", f"{lib}/site-packages"]
    assert seen[3:6] == [str(prefix), f"{prefix}/lib", "posix_prefix"]
    assert not {"deb_system", "posix_local"} & set(seen[7])
    assert seen[8] == f"{lib}/site.py"


def test_extension_modules_load_the_environments_libraries(prefix: Path) -> None:
    """ssl, sqlite3, ctypes, lzma and the others work, with libraries from the prefix and only glibc from outside."""
    libraries = _python(
        prefix,
        "import ssl, sqlite3, ctypes, lzma, bz2, zlib, readline, curses, curses.panel, uuid, crypt, hashlib, decimal\n"
        "import pyexpat, zoneinfo, dbm.dumb, lib2to3.pgen2, multiprocessing.shared_memory\n"
        "lzma.decompress(lzma.compress(b'x')); bz2.compress(b'x'); sqlite3.connect(':memory:').execute('select 1')\n"
        "ctypes.CDLL(None).getpid(); ssl.create_default_context(); hashlib.new('sha3_256'); uuid.uuid1()\n"
        "assert zoneinfo.TZPATH[0].endswith('/share/zoneinfo') and zoneinfo.ZoneInfo('Europe/Berlin')\n"
        "lines = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}\n"
        "print(json.dumps(sorted(lines)))",
    )
    outside = {path.rsplit("/", 1)[1].split(".so")[0] for path in libraries if not path.startswith(str(prefix))}
    assert outside <= {"libc", "libm", "ld-linux-x86-64", "libresolv", "libdl", "libpthread"}
    inside = " ".join(path for path in libraries if path.startswith(str(prefix)))
    assert all(name in inside for name in ("libssl", "libcrypto", "libsqlite3", "libffi", "liblzma", "libreadline"))


def test_every_library_is_found(prefix: Path) -> None:
    """No extension module of the standard library lacks a shared library."""
    names = _python(
        prefix,
        "import importlib, pathlib, sysconfig\n"
        "folder = pathlib.Path(sysconfig.get_path('platstdlib'), 'lib-dynload')\n"
        "names = sorted(path.name.split('.')[0] for path in folder.glob('*.so'))\n"
        "for name in names: importlib.import_module(name)\n"
        "print(json.dumps(names))",
    )
    assert len(names) > 30


@pytest.mark.parametrize("options", [[], ["--without-pip"]])
def test_venv_works(prefix: Path, tmp_path: Path, options: list[str]) -> None:
    """`python -m venv` makes an environment whose packages go to its own site-packages."""
    subprocess.run([str(prefix / "bin/python"), "-m", "venv", *options, str(tmp_path / "v")], check=True)
    paths_of = "import sysconfig; print(json.dumps(sysconfig.get_paths()['purelib']))"
    assert _python(tmp_path / "v", paths_of) == f"{tmp_path}/v/lib/python3.11/site-packages"
    assert (tmp_path / "v/bin/pip").exists() is not bool(options)


def test_metadata_agrees_with_conda_meta(prefix: Path) -> None:
    """Every distribution that Python sees is a conda package of the same version, and the other way round."""
    seen = _python(
        prefix,
        "from importlib import metadata\n"
        "print(json.dumps({d.metadata['Name']: [d.version, d.read_text('INSTALLER').strip(),"
        " [str(f) for f in d.files if not d.locate_file(f).exists()]] for d in metadata.distributions()}))",
    )
    lock = (paths.LOCKS / "channel.yml").read_text()
    rows = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
    wheels = {row["name"]: row["version"] for row in rows if "site-packages" in " ".join(row["files"])}
    wheels.pop("python")
    assert len(seen) == len(wheels)
    for name, (version, installer, missing) in seen.items():
        normal = name.lower().replace("_", "-")
        conda = next(
            key for key in (normal, normal.replace("-", "_"), {"torch": "pytorch"}.get(normal, "")) if key in wheels
        )
        assert wheels[conda] == version.split("+")[0], name
        assert (installer, missing) == ("conda", []), name
        assert conda in lock


def test_entry_points_run(prefix: Path) -> None:
    """Scripts of noarch and of linux-64 packages start with this environment's Python."""
    for name, word in (("uvicorn", "0.54.0"), ("gunicorn", "27.0.1"), ("pydoc3.11", "pydoc")):
        script = prefix / "bin" / name
        option = [] if name == "pydoc3.11" else ["--version"]
        done = subprocess.run([str(script), *option], capture_output=True, text=True, check=True)
        assert word in done.stdout
        assert script.read_text().startswith(f"#!{prefix}/bin/python")


def test_torch_and_transformers_work(prefix: Path) -> None:
    """What was left out of torch is not needed to compute."""
    assert _python(
        prefix,
        "import torch, transformers\n"
        "from transformers import AutoModelForCausalLM\n"
        "print(json.dumps(float(torch.nn.functional.relu(torch.ones(2) @ torch.ones(2, 2)).sum())))",
    ) == pytest.approx(4.0)


def test_prefix_can_be_moved(prefix: Path, tmp_path: Path) -> None:
    """The interpreter finds its library and its shared libraries wherever it is put."""
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-al", f"{prefix}/.", str(moved)], check=True)
    seen = _python(moved, "import sys, ssl, sqlite3, fastapi; print(json.dumps([sys.prefix, fastapi.__file__]))")
    assert seen == [str(moved), f"{moved}/lib/python3.11/site-packages/fastapi/__init__.py"]
