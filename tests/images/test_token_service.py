"""The token service's environment inside its image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slipway import paths
from slipway.image.build import local_tag
from slipway.image.locks import explicit_packages

if TYPE_CHECKING:
    from slipway.image.engine import Engine
    from tests.images.conftest import Container

_START = """
import http.client, json, os, re, subprocess, sys, time

def ask(path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
    connection.request("POST" if body else "GET", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()

verbose = os.environ | {"PYTHONVERBOSE": "1"}
with open("/tmp/log", "wb") as log:
    service = subprocess.Popen([sys.executable, "-m", "token_service"], env=verbose, stdout=log, stderr=log)
    ready = 0
    while ready < 20 and service.poll() is None:  # so often that every worker has said so
        try:
            ready = ready + 1 if ask("/readyz")[0] == 200 else 0
        except OSError:
            time.sleep(0.1)
    text = {"model": "current", "max_tokens": 4, "temperature": 0.7, "top_p": 0.9, "seed": 1}
    seen = [ask("/v1/completions", text | {"prompt": "The", "logprobs": 1})[0]]
    seen += [ask("/v1/chat/completions", text | {"messages": [{"role": "user", "content": "Hi"}], "stream": True})[0]]
    seen += [ask(path)[0] for path in ("/metrics", "/v1/models", "/docs", "/openapi.json")]
    for module in ("token_service.healthcheck", "token_service.environment"):
        seen.append(subprocess.run([sys.executable, "-m", module], env=verbose, stdout=log, stderr=log).returncode)
    service.terminate()
    seen.append(service.wait())
log = open("/tmp/log").read()
# What Python says when it has read a module's source; with bytecode it names the .pyc in quotes.
compiled = sorted(set(re.findall("^# code object from (/.*[.]py)$", log, re.MULTILINE)))
print(json.dumps({"seen": seen, "compiled": compiled, "log": log[-2000:] if 1 in seen else ""}))
"""


_DISTRIBUTIONS = """
import glob, importlib.metadata, json
name = lambda text: text.lower().replace("_", "-").replace(".", "-")
rows = [json.load(open(path)) for path in glob.glob("/opt/slipway/env/conda-meta/*.json")]
known = {{"pytorch": "torch"}.get(row["name"], name(row["name"])): row["version"] for row in rows}
found = {name(item.name): item.version.split("+")[0] for item in importlib.metadata.distributions()}
print(json.dumps({key: [value, known.get(key)] for key, value in found.items() if known.get(key) != value}))
"""


def test_python_is_the_locked_one(container: Container) -> None:
    """`python` is the environment's, of the locked version."""
    version = next(
        file.split("/")[1].split("-")[1] for file in explicit_packages("token-service") if "/python-3" in file
    )
    answer = container.exec("python", "-c", "import sys; print(sys.prefix, sys.version.split()[0])").stdout.split()
    assert answer == ["/opt/slipway/env", version]


def test_holds_exactly_the_locked_environment(container: Container) -> None:
    """conda-meta lists the lock's packages, no more and no fewer."""
    listed = container.exec("sh", "-c", "cd /opt/slipway/env/conda-meta && ls *.json").stdout.split()
    locked = [file.split("/")[1].removesuffix(".conda") for file in explicit_packages("token-service")]
    assert sorted(name.removesuffix(".json") for name in listed) == sorted(locked)


def test_distributions_agree_with_the_lock(container: Container) -> None:
    """importlib.metadata gives the versions that conda-meta gives, for every Python package."""
    answer = container.exec("python", "-c", _DISTRIBUTIONS)
    assert json.loads(answer.stdout) == {}, answer.stderr


def test_carries_the_list_of_its_packages(container: Container) -> None:
    """The lock lies beside the records, byte for byte."""
    text = container.exec("cat", "/opt/slipway/env/conda-meta/lock.txt").stdout
    assert text == (paths.LOCKS / "token-service.linux-64.txt").read_text(encoding="utf-8")


def test_every_locked_package_is_there_and_can_be_imported(container: Container) -> None:
    """The service's own check of its environment, the slow part included, passes in the image as it is shipped."""
    answer = container.exec("/opt/slipway/entrypoint", "python", "-m", "token_service.environment", "--imports")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_start_finds_all_its_bytecode(engine: Engine) -> None:
    """A real start, real requests and health checks compile nothing: start.py covers what they import."""
    model = f"--volume={paths.ROOT / 'models/demo'}:/models/current:ro"
    answer = engine.run(
        *("run", "--rm", "--read-only", "--tmpfs=/tmp", "--network=none", "--cap-drop=all", model),
        *(local_tag("token-service"), "python", "-c", _START),
    )
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["seen"] == [*[200] * 6, 0, 0, 0], found["log"]
    assert found["compiled"] == []


def test_every_declared_library_runs(container: Container) -> None:
    """The pruned environment computes, tokenises and speaks TLS and SQL."""
    script = (
        "import ctypes, lzma, sqlite3, ssl, numpy, safetensors.torch, tokenizers, torch, uvloop, httptools, orjson\n"
        "assert torch.nn.functional.softmax(torch.ones(4), 0).sum().item() == 1\n"
        "assert numpy.linalg.inv(numpy.eye(3)).trace() == 3\n"
        "sqlite3.connect(':memory:').execute('select 1'); ssl.create_default_context()\n"
        "print('ok')"
    )
    answer = container.exec("python", "-c", script)
    assert answer.stdout == "ok\n", answer.stderr


def test_a_wrong_setting_is_named_at_once(engine: Engine) -> None:
    """`python -m token_service` without a model ends with a message, not with a traceback."""
    answer = engine.run("run", "--rm", "--read-only", "--tmpfs=/tmp", "--network=none", local_tag("token-service"))
    assert answer.returncode != 0
    assert "Traceback" not in answer.stderr
    assert "/models/current" in answer.stderr + answer.stdout


def test_layers_follow_churn(engine: Engine) -> None:
    """The application is the last layer and small; a change of code costs kilobytes."""
    answer = engine.run("history", "--no-trunc", "--format", "{{json .}}", local_tag("token-service"))
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    copies = [row for row in rows if "COPY" in row["CreatedBy"] and "/layers/" in row["CreatedBy"]]
    assert [row["CreatedBy"].split("/layers/")[1].split()[0] for row in copies] == [
        "code",
        "rest",
        "heavy",
        "interpreter",
    ]
    assert copies[0]["Size"].endswith("kB"), copies[0]["Size"]


def test_application_is_the_checkout(container: Container) -> None:
    """The image carries src/token_service as it is."""
    root = paths.ROOT / "src"
    for source in sorted((root / "token_service").rglob("*.py")):
        name = source.relative_to(root)
        assert container.exec("cat", f"/opt/slipway/app/{name}").stdout == source.read_text(encoding="utf-8"), name
