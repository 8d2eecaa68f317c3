"""Fixtures: every image of the hierarchy that runs, and containers of it. A child runs its ancestors' tests."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from slipway.image.build import local_tag
from slipway.image.engine import Engine, find_engine
from slipway.image.hierarchy import Hierarchy, load

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = 120


class Container:
    """A throw-away container as the platform runs it: read-only, without network and capabilities."""

    def __init__(self, engine: Engine, image: str, *options: str) -> None:
        self._engine = engine
        words = ["--detach", "--read-only", "--tmpfs=/tmp", "--network=none", "--cap-drop=all", *options]
        started = engine.run("run", *words, image, "sleep", "600")
        assert started.returncode == 0, started.stderr
        self.id = started.stdout.strip()

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return subprocess.run(
            [self._engine.client, "exec", self.id, *words], capture_output=True, text=True, check=False, timeout=_LIMIT
        )

    def remove(self) -> None:
        """End it."""
        self._engine.run("rm", "--force", "--volumes", self.id)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return the engine that holds the images."""
    return find_engine()


@pytest.fixture(scope="session")
def hierarchy() -> Hierarchy:
    """Return images/hierarchy.yml."""
    return load()


@pytest.fixture(scope="session")
def containers() -> Iterator[dict[str, Container]]:
    """Hold at most one container per image for the whole run."""
    started: dict[str, Container] = {}
    yield started
    for container in started.values():
        container.remove()


@pytest.fixture
def container(engine: Engine, containers: dict[str, Container], image: str) -> Container:
    """Return a running container of `image`; the test fails when the image has not been built."""
    if image not in containers:
        assert engine.images([local_tag(image)]), f"{local_tag(image)} is not there; run `nox -s image`"
        containers[image] = Container(engine, local_tag(image))
    return containers[image]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each module's tests for the image it is named after and for everything built on that image."""
    if "image" not in metafunc.fixturenames:
        return
    hierarchy = load()
    subject = metafunc.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    chains = {name: [name, *hierarchy.ancestors(name)] for name in hierarchy.names if hierarchy[name].pushed}
    metafunc.parametrize("image", [name for name, chain in chains.items() if subject in chain])
