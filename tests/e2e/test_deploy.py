"""From a bare machine to streamed tokens, with the commands and faults of real use.

The tests of this folder run in the order of files and lines on one deployment; each leaves it serving.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from slipway.flow.mutex import lock_path
from slipway.paths import IMAGES, ROOT
from tests.e2e.load import Load
from tests.e2e.machine import RUNS, URL, api_key, describe, docker, last_report, models, nox, snapshot, start, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.machine import Outcome


def _layers(reference: str) -> list[str]:
    """Return the layer digests of an image in the local registry."""
    host, rest = reference.split("/", 1)
    name, digest = rest.split("@", 1)
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
    manifest = httpx.get(f"http://{host}/v2/{name}/manifests/{digest}", headers={"Accept": accept}).json()
    if "manifests" in manifest:
        return _layers(f"{host}/{name}@{manifest['manifests'][0]['digest']}")
    return [layer["digest"] for layer in manifest["layers"]]


def test_taken_port_is_refused_with_its_holder(before: dict[str, list[str]]) -> None:
    """A port somebody listens on stops the run before anything is built, naming process, setting and command."""
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 8000))
        listener.listen()
        outcome = nox("-s", "deploy")
    assert outcome.status != 0
    assert "Port 8000 is taken" in outcome.output
    assert f"process {os.getpid()}" in outcome.output
    assert "slipway_service_port" in outcome.output
    assert snapshot() == before


def test_first_deploy_ends_with_a_verified_service(deployed: Outcome) -> None:
    """One command takes the machine to a service that has passed its checks."""
    assert deployed.status == 0
    report = last_report()
    assert [row["stage"] for row in report["stages"]] == [
        *("provision", "lock", "channel", "image", "push", "deploy", "verify")
    ]
    assert report["url"] == URL


@pytest.mark.usefixtures("curl")
def test_printed_curl_line_streams_tokens(deployed: Outcome) -> None:
    """The curl line of the summary, pasted into a shell, streams to `[DONE]` and shows no key."""
    line = last_report()["curl"]
    assert line in deployed.output
    assert api_key() not in deployed.output
    done = subprocess.run(
        ["bash", "-c", line.replace("curl -N", "curl -sN")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.count("data: ") > 2
    assert done.stdout.rstrip().endswith("data: [DONE]")


@pytest.mark.usefixtures("deployed")
def test_images_hold_what_they_promise() -> None:
    """The image tests, inherited along the hierarchy, pass on the images that were just built."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/images"], cwd=ROOT, check=False)
    assert done.returncode == 0


@pytest.mark.usefixtures("deployed")
def test_second_deploy_changes_nothing_and_excludes_a_third() -> None:
    """The second run reports changed=0; a run started meanwhile says who holds the lock."""
    digests = (IMAGES / "digests.yml").read_bytes()
    begun = time.monotonic()
    second = start("-s", "deploy")
    wait_for(lambda: lock_path("local").read_text(encoding="utf-8"), 30, "the second run took the lock")
    holder = json.loads(lock_path("local").read_text(encoding="utf-8"))
    third = nox("-s", "deploy")
    output, _ = second.communicate(timeout=300)
    RUNS.append(describe(("-s", "deploy"), begun))
    sys.stdout.write(output)
    assert third.status != 0
    assert f"process {holder['pid']}" in third.output
    assert second.returncode == 0
    assert last_report()["changed"] == 0, [row["changed_names"] for row in last_report()["stages"]]
    assert (IMAGES / "digests.yml").read_bytes() == digests


@pytest.mark.usefixtures("deployed")
def test_killed_container_is_replaced() -> None:
    """After `kill -9` of one task the service goes on answering, and the Swarm starts another task."""
    label = "label=com.docker.swarm.service.name=slipway_token-service"
    victim = docker("ps", "-q", "--filter", label).split()[0]
    docker("kill", "--signal", "KILL", victim)

    def replaced() -> bool:
        healthy = docker("ps", "-q", "--filter", label, "--filter", "health=healthy").split()
        return len(healthy) == 2 and victim not in healthy

    assert httpx.get(f"{URL}/livez").status_code == 200
    wait_for(replaced, 90, "a healthy replacement")


@pytest.mark.usefixtures("deployed")
def test_code_change_rolls_out_without_a_failed_stream(source_file: Path) -> None:
    """A one-line change rebuilds the application layer alone and reaches all tasks while streams go on."""
    before = last_report()["images"]["token-service"]["reference"]
    old_layers = _layers(before)
    source_file.write_text(source_file.read_text(encoding="utf-8") + "# changed by a test\n", encoding="utf-8")
    with Load(URL, api_key()) as load:
        outcome = nox("-s", "deploy")
    assert outcome.status == 0
    after = last_report()["images"]["token-service"]["reference"]
    assert after != before
    new_layers = _layers(after)
    assert len(set(new_layers) - set(old_layers)) == 1
    assert load.done > 0
    assert load.failures == []


@pytest.mark.usefixtures("deployed")
def test_killed_run_is_taken_up_by_the_next() -> None:
    """`kill -9` in the middle of a run leaves the service up and nothing half-written; the next run completes."""
    run = start("-s", "deploy")
    logs = ROOT / ".slipway" / "logs"
    begun = time.time()
    wait_for(
        lambda: (logs / "image.log").is_file() and (logs / "image.log").stat().st_mtime > begun, 120, "the image stage"
    )
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    assert httpx.get(f"{URL}/readyz").status_code == 200
    assert nox("-s", "deploy").status == 0
    assert nox("-s", "deploy").status == 0
    assert last_report()["changed"] == 0


@pytest.mark.usefixtures("deployed")
def test_broken_model_is_refused_before_anything_changes(broken_model: Path) -> None:
    """A model that does not match its manifest is named with both checksums; the running one is not touched."""
    before = docker("service", "inspect", "--format", "{{.Version.Index}}", "slipway_token-service")
    outcome = nox("-s", "deploy", "--", "-e", models(demo=broken_model))
    assert outcome.status != 0
    assert "model.safetensors" in outcome.output
    assert "sha256" in outcome.output
    assert docker("service", "inspect", "--format", "{{.Version.Index}}", "slipway_token-service") == before
    assert httpx.get(f"{URL}/readyz").status_code == 200


@pytest.mark.usefixtures("deployed")
def test_release_that_cannot_start_is_rolled_back() -> None:
    """A setting the service refuses: the task's own message is shown, the old release serves on, the next run mends."""
    with Load(URL, api_key(), clients=1) as load:
        outcome = nox("-s", "deploy", "--", "-e", '{"token_service_settings": {"MAX_RUNNING": "many"}}')
    assert outcome.status != 0
    assert "TOKEN_SERVICE_MAX_RUNNING" in outcome.output
    assert load.failures == []
    assert nox("-s", "deploy").status == 0
