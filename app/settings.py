"""What an operator may set, from `ATTUNE_*` variables or a `.env` file.

Every field has a value that works on one machine with nothing configured. `production` refuses the
values that are only safe there.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024
MAX_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux and 104 on macOS
LOCAL_HOME = Path(".attune")


def _default_home() -> Path:
    """`./.attune` where the quickstart made one, so that its models are found; else `~/.attune`."""
    return LOCAL_HOME.absolute() if LOCAL_HOME.is_dir() else Path.home() / ".attune"


class Settings(BaseSettings):
    """The service's settings; units are in the names (`_s` seconds, `_bytes` bytes)."""

    model_config = SettingsConfigDict(
        env_prefix="ATTUNE_", env_file=".env", extra="ignore", frozen=True
    )

    environment: Literal["development", "production"] = "development"
    home: Path = Field(
        default_factory=_default_home,
        description="Folder for all local state; default: ./.attune where there is one, else ~/.attune.",
    )

    # Where the three kinds of state live. None means: embedded, under `home`.
    database_url: SecretStr | None = None
    broker_url: SecretStr | None = None
    store_url: str | None = Field(default=None, description="file:///path of a shared folder.")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    allowed_hosts: list[str] = Field(
        default=["*"], description="Host headers answered; set it when the port is reachable."
    )
    predict: bool = Field(default=True, description="Serve predictions in the API process.")

    key_pepper: SecretStr | None = Field(
        default=None, description="Secret that keys are hashed with; required in production."
    )

    # Base models
    model_dirs: list[Path] = Field(
        default=[], description="Folders whose sub-folders may be named as base models."
    )
    hub: bool = Field(default=True, description="Allow base models from the Hugging Face Hub.")

    # Limits
    max_upload_bytes: int = Field(default=512 * MIB, gt=0)
    max_json_bytes: int = Field(default=MIB, gt=0)
    max_json_depth: int = Field(default=32, gt=0)
    max_rows: int = Field(default=5_000_000, gt=0)
    max_queued_jobs: int = Field(default=1000, gt=0, description="Unfinished jobs per tenant.")

    # The life of a job; `docs/architecture.md` says what each of them protects.
    lease_ttl_s: float = Field(default=30.0, gt=0)
    heartbeat_s: float = Field(default=5.0, gt=0)
    self_fence_s: float = Field(default=20.0, gt=0)
    sweep_interval_s: float = Field(default=5.0, gt=0)
    relay_interval_s: float = Field(default=0.5, gt=0)
    redispatch_after_s: float = Field(default=60.0, gt=0)
    crash_budget: int = Field(default=3, ge=0, description="Crashes without checkpoint progress.")
    max_runs: int = Field(default=20, ge=1)
    retry_backoff_s: float = Field(default=2.0, ge=0)
    drain_timeout_s: float = Field(default=120.0, gt=0)
    idempotency_ttl_s: float = Field(default=24 * 3600.0, gt=0)
    standby: bool = Field(default=True, description="Keep one trainer warm per worker.")

    # Watchdog: seconds a phase may go without a sign of progress.
    progress_timeout_s: float = Field(default=900.0, gt=0)

    # Predictions
    model_cache_bytes: int = Field(default=2048 * MIB, gt=0)
    max_batch_tokens: int = Field(default=8192, gt=0)
    max_queued_predictions: int = Field(default=1024, gt=0)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.heartbeat_s < self.self_fence_s < self.lease_ttl_s:
            message = "heartbeat_s < self_fence_s < lease_ttl_s must hold, or two workers overlap"
            raise ValueError(message)
        if self.environment == "production":
            missing = [
                f"ATTUNE_{name.upper()}"
                for name in ("database_url", "broker_url", "key_pepper")
                if getattr(self, name) is None
            ]
            if missing:
                message = f"production needs {', '.join(missing)} to be set"
                raise ValueError(message)
            if self.key_pepper is not None and len(self.key_pepper.get_secret_value()) < 32:  # noqa: PLR2004
                message = "ATTUNE_KEY_PEPPER must have at least 32 characters in production"
                raise ValueError(message)
        if self.store_url is not None and not self.store_url.startswith("file://"):
            message = "ATTUNE_STORE_URL must be a file:// URL of a folder shared by API and workers"
            raise ValueError(message)
        return self

    @property
    def resolved_database_url(self) -> str:
        """The database: the one given, or a SQLite file under `home`."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'attune.db'}"

    @property
    def broker_socket(self) -> Path:
        """The embedded broker's Unix socket; in a short private folder when `home` is too deep for one."""
        path = self.home.absolute() / "run" / "broker.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
        return Path("/tmp") / f"attune-{os.getuid()}-{name}" / "broker.sock"  # noqa: S108 - checked: 0700

    @property
    def resolved_broker_url(self) -> str:
        """The broker: the one given, or the embedded server's socket."""
        if self.broker_url is not None:
            return self.broker_url.get_secret_value()
        return f"redis+socket://{self.broker_socket}"

    @property
    def store_dir(self) -> Path:
        """The folder that holds files, runs and models."""
        if self.store_url is not None:
            return Path(self.store_url.removeprefix("file://"))
        return self.home / "store"

    @cached_property
    def pepper(self) -> bytes:
        """The key-hashing secret; in development made once and kept 0600 under `home`."""
        if self.key_pepper is not None:
            return self.key_pepper.get_secret_value().encode()
        path = self.home / "secrets" / "pepper"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_bytes()
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        return path.read_bytes()
