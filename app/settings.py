"""Every setting once: its name in the environment is the field's name in capitals, the unit is in the name.

Read only by `main`, `__main__` and `check`. Secrets come from here alone; the database holds labels.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from app.domain.errors import BadSettings

SHORTEST_TOKEN = 16
MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
DEFAULT_ACCOUNT = "default"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
LABELLED = re.compile(r"(?:(?P<label>[A-Za-z0-9_.-]{1,64}):)?(?P<token>\S+)")


def _safe_url(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        # Its own words may quote the value.
        raise ValueError("must be just https://HOST") from None
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        if _is_host(parts) and not parts.query and not parts.fragment and not parts.username:
            return value.rstrip("/")
        raise ValueError("must be just https://HOST")
    raise ValueError("must start with https:// (http:// is allowed for this machine itself only)")


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        # A port is looked at only now that it is asked for; what stands between brackets was looked at before.
        return parts.port != 0 and (":" in host or all(HOST_LABEL.fullmatch(label) for label in host.split(".")))
    except ValueError:
        return False


def _tokens(value: SecretStr) -> SecretStr:
    parse_tokens(value, "token")
    return value


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < SHORTEST_TOKEN:
        raise ValueError(f"must have at least {SHORTEST_TOKEN} characters: make one with {MAKE_ONE}")
    return value


BaseUrl = Annotated[str, AfterValidator(_safe_url)]
Tokens = Annotated[SecretStr, AfterValidator(_tokens)]


class Authorization(BaseModel):
    """One Sailthru account's key and secret."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    api_key: str = Field(min_length=1, repr=False)
    api_secret: str = Field(min_length=1, repr=False)
    base_url: BaseUrl = "https://api.sailthru.com"


class Settings(BaseSettings):
    """What the service is told from outside: the environment, a `.env` file, or files in `SECRETS_DIR`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True, frozen=True
    )

    database_url: str = "sqlite:///data/lytics-sailthru.db"
    webhook_tokens: Tokens = SecretStr("")
    admin_tokens: Tokens = SecretStr("")
    metrics_tokens: Tokens = SecretStr("")
    erasure_key: Annotated[SecretStr, AfterValidator(_long_enough)] | None = None

    lytics_api_token: SecretStr | None = None
    lytics_base_url: BaseUrl = "https://api.lytics.io"

    sailthru_api_key: SecretStr | None = None
    sailthru_api_secret: SecretStr | None = None
    sailthru_base_url: BaseUrl = "https://api.sailthru.com"
    sailthru_authorizations: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], Authorization] = {}

    auto_export: bool = True

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    forwarded_allow_ips: str = "127.0.0.1"
    service_url: BaseUrl = "http://127.0.0.1:8000"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    sailthru_timeout_seconds: float = Field(default=15, ge=0.1, le=300)
    sailthru_concurrency: int = Field(default=64, ge=1, le=1000)
    sailthru_rate_share: float = Field(default=0.8, gt=0, le=1)
    retry_first_wait_seconds: float = Field(default=5, gt=0, le=3600)
    retry_longest_wait_seconds: float = Field(default=3600, gt=0, le=86400)
    retry_window_hours: float = Field(default=76, gt=0, le=8760)
    journal_days: float = Field(default=14, gt=0, le=3650)
    silent_after_hours: float = Field(default=24, ge=0, le=8760)

    @model_validator(mode="after")
    def _accounts_make_sense(self) -> Self:
        if (self.sailthru_api_key is None) != (self.sailthru_api_secret is None):
            raise ValueError("SAILTHRU_API_KEY and SAILTHRU_API_SECRET go together: set both or neither")
        if self.sailthru_api_key is not None and DEFAULT_ACCOUNT in self.sailthru_authorizations:
            raise ValueError(
                "the authorization 'default' is given twice: by SAILTHRU_API_KEY and in SAILTHRU_AUTHORIZATIONS"
            )
        labels: dict[tuple[str, str], str] = {}
        for label, account in self.accounts().items():
            other = labels.setdefault((account.api_key, account.base_url), label)
            if other != label:
                raise ValueError(
                    f"the Sailthru authorizations {other!r} and {label!r} are one account (same key and host): keep one"
                )
        if self.retry_longest_wait_seconds < self.retry_first_wait_seconds:
            raise ValueError("RETRY_LONGEST_WAIT_SECONDS must not be less than RETRY_FIRST_WAIT_SECONDS")
        return self

    def accounts(self) -> dict[str, Authorization]:
        """The Sailthru accounts by label; `default` is the one of SAILTHRU_API_KEY."""
        if self.sailthru_api_key is None or self.sailthru_api_secret is None:
            return dict(self.sailthru_authorizations)
        default = Authorization(
            api_key=self.sailthru_api_key.get_secret_value(),
            api_secret=self.sailthru_api_secret.get_secret_value(),
            base_url=self.sailthru_base_url,
        )
        return {DEFAULT_ACCOUNT: default, **self.sailthru_authorizations}

    def first_admin_token(self) -> str:
        """What the commands show to a running service.

        Raises:
            BadSettings: there is none, with one sentence that says what to set.
        """
        tokens = parse_tokens(self.admin_tokens, "ADMIN_TOKENS")
        if not tokens:
            raise BadSettings("ADMIN_TOKENS is not set: put one of the running service's into .env or the environment.")
        return next(iter(tokens.values()))

    def require_for_serving(self) -> None:
        """Check what a service can't do without.

        Raises:
            BadSettings: with one sentence that says what to set.
        """
        for name in ("webhook_tokens", "admin_tokens"):
            if not parse_tokens(getattr(self, name), name.upper()):
                raise BadSettings(f"{name.upper()} is not set: make a token with {MAKE_ONE} and put it into .env.")
        shown_by_lytics = set(parse_tokens(self.webhook_tokens, "WEBHOOK_TOKENS").values())
        if shown_by_lytics.intersection(parse_tokens(self.admin_tokens, "ADMIN_TOKENS").values()):
            raise BadSettings(
                "One token stands in WEBHOOK_TOKENS and in ADMIN_TOKENS, so that whoever reads it in Lytics could do "
                f"everything here: make another one for ADMIN_TOKENS with {MAKE_ONE}."
            )
        accounts = self.accounts()
        if not accounts:
            raise BadSettings(
                "No Sailthru account is set: put SAILTHRU_API_KEY and SAILTHRU_API_SECRET into .env "
                "(My Sailthru > Settings > Setup > API & Postbacks)."
            )
        if self.auto_export and DEFAULT_ACCOUNT not in accounts:
            raise BadSettings(
                "AUTO_EXPORT sends new audiences to the authorization 'default', which is not set: "
                "set SAILTHRU_API_KEY and SAILTHRU_API_SECRET, or AUTO_EXPORT=false."
            )


def parse_tokens(value: SecretStr, name: str) -> dict[str, str]:
    """The tokens of a comma-separated setting, by label; a token without one is called by its place, as `token-1`.

    Raises:
        ValueError: a token is too short to be safe, or a label is used twice.
    """
    tokens: dict[str, str] = {}
    for place, part in enumerate((p.strip() for p in value.get_secret_value().split(",") if p.strip()), start=1):
        found = LABELLED.fullmatch(part)
        if found is None or len(found["token"]) < SHORTEST_TOKEN:
            raise ValueError(f"{name} number {place} must have at least {SHORTEST_TOKEN} characters and no spaces")
        label = found["label"] or f"token-{place}"
        if label in tokens:
            raise ValueError(f"the label {label!r} stands twice")
        tokens[label] = found["token"]
    return tokens


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings, from the environment, `.env`, and the files in `SECRETS_DIR` if that is set.

    Raises:
        BadSettings: one sentence that names the setting and what is wrong; never its value.
    """
    secrets_dir = os.environ.get("SECRETS_DIR") or None
    if secrets_dir is not None and not Path(secrets_dir).is_dir():
        raise BadSettings(f"SECRETS_DIR names {secrets_dir}, which is no folder: make it or unset SECRETS_DIR.")
    try:
        given: dict[str, Any] = {"_secrets_dir": secrets_dir, **(overrides or {})}
        return Settings(**given)
    except SettingsError as error:
        # Its text names the field, in quotes, and where it came from; its cause would show the value.
        name = (re.findall(r'"(\w+)"', str(error)) or ["A setting"])[0].upper()
        raise BadSettings(f"{name}: must be JSON, as in .env.example.") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        reason = first["msg"].removeprefix("Value error, ")
        raise BadSettings(f"{name}: {reason}." if name else f"{reason[0].upper()}{reason[1:]}.") from None
