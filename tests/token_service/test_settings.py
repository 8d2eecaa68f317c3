"""Settings: every mistake is named, secrets stay hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from token_service import settings
from token_service.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path


def _read(folder: Path, **values: str) -> settings.Settings:
    return settings.read(
        {"TOKEN_SERVICE_MODEL_DIR": str(folder)} | {f"TOKEN_SERVICE_{k}": v for k, v in values.items()}
    )


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    """Four workers on port 8000, named after the model's folder."""
    found = _read(tmp_path)
    assert (found.workers, found.port, found.drain_seconds, found.model_name) == (4, 8000, 3, tmp_path.name)


def test_empty_variable_means_default(tmp_path: Path) -> None:
    """Compose files pass unset variables as empty ones."""
    assert _read(tmp_path, PORT="").port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "http"),
        ("WORKERS", "1.5"),
        ("LOG_LEVEL", "loud"),
        ("DEVICE", "tpu"),
        ("DRAIN_SECONDS", "nan"),
        ("GRACEFUL_TIMEOUT", "3"),
        ("WORKRES", "4"),
    ],
)
def test_wrong_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    """The message names the variable, misspelt ones included."""
    with pytest.raises(StartError, match=f"TOKEN_SERVICE_{name}"):
        _read(tmp_path, **{name: value})


def test_missing_model_folder_is_named(tmp_path: Path) -> None:
    """A folder that was not mounted is the most common mistake."""
    with pytest.raises(StartError, match="nowhere"):
        _read(tmp_path / "nowhere")


def test_keys_come_from_the_file_and_hide(tmp_path: Path) -> None:
    """One key per line; `repr` of the settings shows none of them."""
    file = tmp_path / "keys"
    file.write_text("first-key\n\nsecond-key\n")
    found = _read(tmp_path, API_KEY_FILE=str(file))
    assert [key.reveal() for key in found.api_keys] == ["first-key", "second-key"]
    assert "first-key" not in repr(found)


@pytest.mark.parametrize("content", [None, "", "\n \n"])
def test_key_file_without_key_refuses_to_start(tmp_path: Path, content: str | None) -> None:
    """A named file that is missing or empty must not open the API."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartError, match="API key file"):
        _read(tmp_path, API_KEY_FILE=str(file))
