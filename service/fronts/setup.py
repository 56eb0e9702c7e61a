"""What the device process tells a front first: so much of the settings as it needs, and the token."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ..settings import Settings

# A larger body goes through the front as it comes: the device process works through its texts in turns.
MOST_BODY_BYTES = 1024 * 1024


class Setup(BaseModel):
    """As JSON in a frame; `http` is the Unix socket on which the application listens."""

    model_config = ConfigDict(frozen=True)

    http: str
    token: str | None
    root_path: str
    max_body_bytes: int
    tokenizer_threads: int
    log_level: str

    @classmethod
    def of(cls, settings: Settings, token: str | None, http: str) -> Setup:
        return cls(
            http=http,
            token=token,
            root_path=settings.root_path,
            max_body_bytes=min(settings.max_body_bytes, MOST_BODY_BYTES),
            tokenizer_threads=settings.tokenizer_threads,
            log_level=settings.log_level,
        )
