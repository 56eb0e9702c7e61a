"""Every setting of the service, with default, unit and help; read by the application and its routes alone.

A setting is the environment variable `TRUNKLINE_<NAME>` or the flag of `trunkline serve` of the same name.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import ConfigurationError

MIB = 1024 * 1024


class Settings(BaseSettings):
    """What a running service can be told."""

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_", frozen=True, extra="forbid")

    backbone: str = Field("minilm", description="minilm, a local Hugging Face directory, or a hub id")
    store: Path = Field(Path("adapters_store/data"), description="folder of the adapter versions")
    host: str = Field("127.0.0.1", description="address to listen on; without a token loopback only")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the backbone runs")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="number format of the backbone; auto is float32, and T5 refuses float16"
    )
    token: SecretStr | None = Field(None, description="bearer token that callers must send")
    token_file: Path | None = Field(
        None, description="file with the token; created with a random one if missing"
    )

    max_batch_tokens: int | None = Field(
        None, ge=16, description="tokens per forward pass; by device if not set"
    )
    max_batch_rows: int = Field(1024, ge=1, description="rows per forward pass")
    max_waiting_tokens: int = Field(1_000_000, ge=1, description="charged tokens that may wait; then 429")
    max_items: int = Field(10_000, ge=1, description="inputs per request")
    max_tasks: int = Field(64, ge=1, description="tasks per request")
    max_scores: int = Field(2_000_000, ge=1, description="inputs x labels over all tasks of a request")
    max_text_chars: int = Field(
        1_000_000, ge=1, description="characters per input, its pair or choices included"
    )
    max_new_tokens: int = Field(128, ge=1, description="tokens that a request may have generated per input")
    max_body_bytes: int = Field(32 * MIB, ge=1024, description="body of a predict call")
    max_adapter_bytes: int = Field(64 * MIB, ge=1024, description="uploaded adapter file")
    max_adapters: int = Field(10_000, ge=1, description="adapter versions on the device")
    max_metric_tasks: int = Field(100, ge=0, description="tasks with metric series of their own")

    tokenizer_threads: int = Field(2, ge=1, le=64, description="threads that tokenise")
    device_threads: int | None = Field(
        None, ge=1, description="CPU threads of a forward pass; torch decides if not set"
    )
    startup_probes: int = Field(2, ge=0, le=32, description="probes replayed per stored adapter at start")
    drain_timeout_s: float = Field(30.0, ge=0, description="longest wait for accepted requests on SIGTERM")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is logged"
    )


def resolve_token(settings: Settings) -> str | None:
    """The bearer token: given, read from its file, or written to it; None if none is configured.

    Raises ConfigurationError if none is configured and the host is not loopback, or the file is not usable.
    """
    if settings.token is not None and settings.token_file is not None:
        raise ConfigurationError("both token and token_file are set; set one of them")
    token = settings.token.get_secret_value() if settings.token is not None else None
    if settings.token_file is not None:
        token = _read_or_create(settings.token_file)
    if token is not None and (len(token) < 8 or not token.isascii() or token.split() != [token]):
        raise ConfigurationError("the token must be at least 8 ASCII characters without spaces")
    if token is None and not is_loopback(settings.host):
        raise ConfigurationError(
            f"without a token the service listens on loopback only, not on {settings.host!r}; "
            "set TRUNKLINE_TOKEN or --token-file, or use --host 127.0.0.1"
        )
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
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"token file {path} cannot be used: {error}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
