"""Settings: every mistake is named."""

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
    assert (found.workers, found.port, found.drain_seconds, found.models[0].name) == (4, 8000, 3, tmp_path.name)


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


def test_several_models_have_a_name_each(tmp_path: Path) -> None:
    """NAME=FOLDER with commas; not together with the variables for one model."""
    (tmp_path / "a").mkdir()
    listed = {"TOKEN_SERVICE_MODELS": f"one={tmp_path}, two={tmp_path / 'a'}"}
    found = settings.read(listed)
    assert [(model.name, model.folder) for model in found.models] == [("one", tmp_path), ("two", tmp_path / "a")]
    assert found.socket("two") != found.socket("one")
    with pytest.raises(StartError, match="TOKEN_SERVICE_MODELS"):
        settings.read(listed | {"TOKEN_SERVICE_MODEL_DIR": str(tmp_path)})


@pytest.mark.parametrize("value", ["one", "one=", "=/tmp", ",", "one=/tmp,one=/tmp"])
def test_malformed_list_of_models_is_named(value: str) -> None:
    """The message shows the form."""
    with pytest.raises(StartError, match="TOKEN_SERVICE_MODELS"):
        settings.read({"TOKEN_SERVICE_MODELS": value})


@pytest.mark.parametrize("name", ["API_KEYS_FILE", "METRICS_KEYS_FILE", "LOCK_FILE"])
def test_named_file_must_exist(tmp_path: Path, name: str) -> None:
    """A key file that is missing must not open the API."""
    with pytest.raises(StartError, match="does not exist") as refused:
        _read(tmp_path, **{name: str(tmp_path / "nothing")})
    assert f"TOKEN_SERVICE_{name}" in refused.value.mend


def test_flags_are_true_or_false(tmp_path: Path) -> None:
    """Nothing else, so that `no` is not taken for yes."""
    assert _read(tmp_path, LOG_PROMPTS="TRUE").log_prompts is True
    with pytest.raises(StartError, match="PREFIX_CACHE"):
        _read(tmp_path, PREFIX_CACHE="no")
