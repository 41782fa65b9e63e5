"""Settings: every name works, and a name or value that does not is one sentence that says what would."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app import machine, settings
from app.artifact.decoder.decode import MAX_PIXELS
from app.settings import DEFAULT_MODEL, Settings, SettingsError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests."""
    for name in [name for name in os.environ if name.upper().startswith("SIGHTGLASS_")]:
        monkeypatch.delenv(name)


def refusal(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        settings.load(**overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


EVERY: dict[str, tuple[str, str, Any, Any]] = {
    # field: variable, text, value, default
    "model": ("SIGHTGLASS_MODEL", "exports/cats/2", Path("exports/cats/2"), DEFAULT_MODEL),
    "variant": ("SIGHTGLASS_VARIANT", "onnx-int8", "onnx-int8", "auto"),
    "device": ("SIGHTGLASS_DEVICE", "cuda", "cuda", "auto"),
    "host": ("SIGHTGLASS_HOST", "0.0.0.0", "0.0.0.0", "127.0.0.1"),
    "port": ("SIGHTGLASS_PORT", "9000", 9000, 8000),
    "uds": ("SIGHTGLASS_UDS", "/run/s.sock", Path("/run/s.sock"), None),
    "header_timeout_ms": ("SIGHTGLASS_HEADER_TIMEOUT_MS", "100", 100, 20_000),
    "root_path": ("SIGHTGLASS_ROOT_PATH", "/cats", "/cats", ""),
    "workers": ("SIGHTGLASS_WORKERS", "2", 2, None),
    "threads": ("SIGHTGLASS_THREADS", "3", 3, None),
    "max_batch": ("SIGHTGLASS_MAX_BATCH", "8", 8, 16),
    "batch_delay_ms": ("SIGHTGLASS_BATCH_DELAY_MS", "5", 5, 0),
    "max_queue": ("SIGHTGLASS_MAX_QUEUE", "64", 64, 128),
    "max_upload_bytes": ("SIGHTGLASS_MAX_UPLOAD_BYTES", "5000000", 5_000_000, 10_000_000),
    "max_pixels": ("SIGHTGLASS_MAX_PIXELS", "1000000", 1_000_000, 64_000_000),
    "deadline_ms": ("SIGHTGLASS_DEADLINE_MS", "100", 100, 30_000),
    "api_keys": ("SIGHTGLASS_API_KEYS", "alice:0123456789abcdef", SecretStr("alice:0123456789abcdef"), None),
    "api_keys_file": ("SIGHTGLASS_API_KEYS_FILE", "/run/secrets/keys", Path("/run/secrets/keys"), None),
    "cors_origins": ("SIGHTGLASS_CORS_ORIGINS", "https://a.example", "https://a.example", ""),
    "cors_headers": ("SIGHTGLASS_CORS_HEADERS", "X-One, X-Two", "X-One, X-Two", ""),
    "security_headers": ("SIGHTGLASS_SECURITY_HEADERS", "on", "on", "off"),
    "drain_ms": ("SIGHTGLASS_DRAIN_MS", "3000", 3000, 0),
    "log_format": ("SIGHTGLASS_LOG_FORMAT", "json", "json", "text"),
}


def test_the_table_of_this_test_names_every_setting() -> None:
    assert set(EVERY) == set(Settings.model_fields)


@pytest.mark.parametrize(("field", "row"), EVERY.items(), ids=EVERY)
def test_each_setting_has_its_default_and_its_variable(
    monkeypatch: pytest.MonkeyPatch, field: str, row: tuple[str, str, Any, Any]
) -> None:
    variable, text, value, default = row
    assert getattr(settings.load(), field) == default
    monkeypatch.setenv(variable, text)
    loaded = settings.load()
    assert getattr(loaded, field) == value
    others = {name: getattr(loaded, name) for name in EVERY if name != field}
    assert others == {name: row[3] for name, row in EVERY.items() if name != field}


def test_the_default_model_is_the_artifact_beside_the_app_package() -> None:
    assert Path(settings.__file__).parent.parent / "exports" / "cifar10" / "1" == settings.load().model


def test_overrides_beat_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTGLASS_PORT", "9000")
    monkeypatch.setenv("SIGHTGLASS_WORKERS", "2")
    loaded = settings.load(port=9001)
    assert (loaded.port, loaded.workers) == (9001, 2)


def test_settings_cannot_be_changed_once_loaded() -> None:
    with pytest.raises(ValidationError):
        settings.load().port = 1  # type: ignore[misc]


# --- names --------------------------------------------------------------------------------------------------------


def test_what_a_client_shows_is_suggested_to_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would start, open to everybody."""
    monkeypatch.setenv("SIGHTGLASS_APIKEY", "alice:0123456789abcdef")
    assert refusal() == "SIGHTGLASS_APIKEY is no setting; did you mean SIGHTGLASS_API_KEYS?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SIGHTGLASS_MAXBATCH", "SIGHTGLASS_MAX_BATCH"),
        ("SIGHTGLASS_THREAD", "SIGHTGLASS_THREADS"),
        ("SIGHTGLASS_MODLE", "SIGHTGLASS_MODEL"),
        ("sightglass_max_uploads_bytes", "SIGHTGLASS_MAX_UPLOAD_BYTES"),
    ],
)
def test_a_misspelt_name_is_an_error_that_suggests_the_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "4")
    assert refusal() == f"{name} is no setting; did you mean {meant}?"


def test_a_name_like_no_other_is_an_error_that_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTGLASS_TEMPERATURE", "2")
    sentence = refusal()
    assert sentence.startswith("SIGHTGLASS_TEMPERATURE is no setting; known are ")
    assert all(variable in sentence for variable, *_ in EVERY.values())


def test_the_command_lines_own_variable_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTGLASS_DEBUG", "1")
    assert settings.load() == Settings()


def test_an_unknown_override_is_an_error() -> None:
    assert "prot" in refusal(prot=8000)


# What Kubernetes puts into every pod of a namespace with a Service named `sightglass`, in its order.
SERVICE_LINKS = {
    "SIGHTGLASS_SERVICE_HOST": "10.0.171.239",
    "SIGHTGLASS_SERVICE_PORT": "80",
    "SIGHTGLASS_SERVICE_PORT_HTTP": "80",
    "SIGHTGLASS_PORT": "tcp://10.0.171.239:80",
    "SIGHTGLASS_PORT_80_TCP": "tcp://10.0.171.239:80",
    "SIGHTGLASS_PORT_80_TCP_PROTO": "tcp",
    "SIGHTGLASS_PORT_80_TCP_PORT": "80",
    "SIGHTGLASS_PORT_80_TCP_ADDR": "10.0.171.239",
}


@pytest.mark.parametrize("names", [*([name] for name in SERVICE_LINKS), list(SERVICE_LINKS)], ids=lambda each: each[-1])
def test_what_kubernetes_injects_is_explained_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    for name in names:
        monkeypatch.setenv(name, SERVICE_LINKS[name])
    assert "Kubernetes" in refusal()
    assert "enableServiceLinks: false" in refusal()


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "http", "integer"),
        ("PORT", "70000", "65535"),
        ("PORT", "-1", "0"),
        ("PORT", "", "integer"),
        ("WORKERS", "0", "greater than or equal to 1"),
        ("THREADS", "0", "greater than or equal to 1"),
        ("THREADS", "1.5", "integer"),
        ("MAX_BATCH", "0", "greater than or equal to 1"),
        ("MAX_QUEUE", "-5", "greater than or equal to 1"),
        ("MAX_UPLOAD_BYTES", "10MB", "integer"),
        ("DEADLINE_MS", "0", "greater than or equal to 1"),
        ("MAX_PIXELS", "0", "greater than or equal to 1"),
        ("MAX_PIXELS", str(MAX_PIXELS + 1), str(MAX_PIXELS)),
        ("VARIANT", "int8", "'onnx-int8'"),
        ("DEVICE", "gpu", "'cuda'"),
        ("LOG_FORMAT", "xml", "'json'"),
    ],
)
def test_a_bad_value_is_one_sentence_with_the_name_the_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"SIGHTGLASS_{name}", value)
    sentence = refusal()
    assert sentence.startswith(f"SIGHTGLASS_{name}={value}: ")
    assert words in sentence
    assert "Kubernetes" not in sentence


def test_a_bad_override_is_named_as_the_caller_wrote_it() -> None:
    assert refusal(port="http").startswith("port=http: ")


def test_as_many_pixels_are_allowed_as_the_decoder_takes() -> None:
    assert settings.load(max_pixels=MAX_PIXELS).max_pixels == MAX_PIXELS


# --- threads ------------------------------------------------------------------------------------------------------


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: machine.Cores(8, "container quota 8 of 64 cores"))


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("workers", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_workers_share_the_usable_cores_and_each_has_a_thread(workers: int, threads: int) -> None:
    loaded = settings.load(workers=workers)
    assert loaded.threads_per_worker == threads
    assert loaded.threads_reason == f"container quota 8 of 64 cores, {workers} worker{'' if workers == 1 else 's'}"


@pytest.mark.usefixtures("eight_cores")
def test_threads_that_are_set_are_taken_and_named_as_the_reason() -> None:
    loaded = settings.load(workers=2, threads=3)
    assert (loaded.threads_per_worker, loaded.threads_reason) == (3, "SIGHTGLASS_THREADS")
