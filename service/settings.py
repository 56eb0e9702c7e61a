"""Every setting of the service, with default, unit and help; read by the application and its routes alone.

A setting is the environment variable `TRUNKLINE_<NAME>` or the flag of `trunkline serve` of the same name.
What an environment holds beside settings is for `environment.py` to say.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, JsonValue, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from adapters_store import UPLOAD_LIMIT_BYTES

from . import environment
from .addresses import origins_of, prefix_of
from .environment import Environment, variable_of
from .errors import ConfigurationError
from .tokens import MIN_CHARS, fault_of, trimmed

MIB = 1024 * 1024


def _setting(
    panel: str, default: Any, text: str, *, ge: float | None = None, le: float | None = None, told: str = ""
) -> Any:
    """`panel` is its heading on the help page; `told` puts it among the limits at `/v1/limits`."""
    extra: dict[str, JsonValue] = {"panel": panel, "told": told}
    return Field(default, description=text, ge=ge, le=le, json_schema_extra=extra)


_serving = partial(_setting, "Serving")
_access = partial(_setting, "Access")
_limit = partial(_setting, "Limits")
_of_requests = partial(_limit, told="requests")
_of_load = partial(_limit, told="load")
_other = partial(_setting, "Other")


class Settings(BaseSettings):
    """What a running service can be told."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_", frozen=True, extra="forbid")

    backbone: str = _serving("minilm", "minilm, a local Hugging Face directory, or a hub id")
    store: Path = _serving(Path("adapters_store/data"), "folder of the adapter versions")
    host: str = _serving("127.0.0.1", "address to listen on; without a token loopback only")
    port: int = _serving(8000, "port to listen on; 0 takes a free one", ge=0, le=65535)
    device: Literal["auto", "cpu", "cuda"] = _serving("auto", "where the backbone runs")
    workers: int = _serving(
        0,
        "processes that speak HTTP before the one that computes, for a GPU or many cores; 0: one does both",
        ge=0,
        le=64,
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _serving(
        "auto",
        "number format of the backbone; auto is bfloat16 where processor and probes bear it, else float32",
    )
    record_passes: bool = _serving(
        False, "on a GPU in 16 bits, record passes and replay them; tried on a CPU alone"
    )
    token: SecretStr | None = _access(None, "bearer token that callers must send")
    token_file: Path | None = _access(None, "file with the token; created with a random one if missing")
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(origins_of)] = _access(
        (), "origins whose web pages may call, such as https://app.example; * for all, with a token"
    )
    root_path: Annotated[str, BeforeValidator(prefix_of)] = _access(
        "", "prefix under which a proxy offers the service, such as /trunkline, cut off by it or not"
    )

    max_batch_tokens: int | None = _of_load(None, "tokens per forward pass; by device if not set", ge=16)
    max_batch_rows: int = _of_load(1024, "rows per forward pass", ge=1)
    max_waiting_tokens: int = _of_load(1_000_000, "charged tokens that may wait; then 429", ge=1)
    max_items: int = _of_requests(10_000, "inputs per request", ge=1)
    max_tasks: int = _of_requests(64, "tasks per request", ge=1)
    max_scores: int = _of_requests(2_000_000, "inputs x labels over all tasks of a request", ge=1)
    max_text_chars: int = _of_requests(1_000_000, "characters per input, its pair or choices included", ge=1)
    max_new_tokens: int = _of_requests(128, "tokens that a request may have generated per input", ge=1)
    max_body_bytes: int = _of_requests(32 * MIB, "body of a predict call", ge=1024)
    max_adapter_bytes: int = _of_requests(UPLOAD_LIMIT_BYTES, "uploaded adapter file", ge=1024)
    max_adapters: int = _of_requests(10_000, "adapter versions on the device", ge=1)
    max_metric_tasks: int = _limit(100, "tasks with metric series of their own", ge=0)

    tokenizer_threads: int = _other(2, "threads that tokenise", ge=1, le=64)
    device_threads: int | None = _other(
        None, "CPU threads of each pass; chosen at the start if not set", ge=1
    )
    startup_probes: int = _other(2, "probes replayed per stored adapter at start", ge=0, le=32)
    drain_timeout_s: float = _other(30.0, "longest wait for accepted requests on SIGTERM", ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = _other("info", "least level that is logged")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is said outright, then the environment."""
        return init_settings, Environment(settings_cls)


def sentences(error: ValidationError, called: Mapping[str, str]) -> Iterator[str]:
    """Each wrong setting, what it is and why not; by its variable where it was not `called` otherwise."""
    for details in error.errors(include_url=False):
        name = str(details["loc"][0]) if details["loc"] else "settings"
        reason = details["msg"].removeprefix("Value error, ")
        yield f"{called.get(name, variable_of(name))} is {details['input']!r}: {reason}"


def remarks(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """What a person should know of the variables and of the token's file, and what stops nothing."""
    yield from environment.remarks(environ, Settings.model_fields)
    try:
        text = settings.token_file.read_text(encoding="utf-8") if settings.token_file else ""
    except (OSError, UnicodeDecodeError):
        return  # `resolve_token` makes it, or says what is wrong
    if text.rstrip("\r\n") != trimmed(text):
        yield f"{settings.token_file} has white space or a byte order mark around the token: it was cut off"


def told_limits() -> list[str]:
    """The settings at `/v1/limits`: those of a request, then those of the load."""
    told = {
        name: cast(dict[str, str], field.json_schema_extra)["told"]
        for name, field in Settings.model_fields.items()
    }
    return sorted(filter(told.get, told), key=lambda name: told[name] == "load")


def resolve_token(settings: Settings) -> str | None:
    """The bearer token: given, read from its file, or written to it; None if none is configured.

    Raises ConfigurationError if the token or its file is not usable, and if none is configured while the host
    is not loopback or every web page may call.
    """
    if settings.token is not None and settings.token_file is not None:
        raise ConfigurationError("both token and token_file are set; set one of them")
    if settings.token is not None:
        return _sound(settings.token.get_secret_value(), "the given one")
    if settings.token_file is not None:
        return _sound(_read_or_create(settings.token_file), f"that in {settings.token_file}")
    if not is_loopback(settings.host):
        raise ConfigurationError(
            f"without a token the service listens on loopback only, not on {settings.host!r}; "
            "set TRUNKLINE_TOKEN or --token-file, or use --host 127.0.0.1"
        )
    if "*" in settings.cors_origins:
        raise ConfigurationError(
            "cors_origins is * and there is no token: any web page could upload and delete; "
            "set TRUNKLINE_TOKEN or --token-file, or name the origins"
        )
    return None


def _sound(text: str, which: str) -> str:
    """The token in a text. Raises ConfigurationError for one that is short or cannot be sent."""
    token = trimmed(text)
    fault = fault_of(token) or ("" if len(token) >= MIN_CHARS else f"has {len(token)}")
    if fault:
        rule = f"the token must be at least {MIN_CHARS} ASCII characters without spaces"
        raise ConfigurationError(f"{rule}; {which} {fault}")
    return token


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read_or_create(path: Path) -> str:
    try:
        try:
            with open(path, "x", encoding="ascii", opener=_private) as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        except FileExistsError:
            pass
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"token file {path} cannot be used: {error}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"token file {path} cannot be used: it is not ASCII (some shells write UTF-16); write it as ASCII"
        ) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
