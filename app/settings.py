"""All settings. The environment variable of a setting is its field name in capitals; the name carries the unit.

Only `main`, `__main__` and `check` read settings. Secrets come only from here; the database holds labels.
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
GENERATOR = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
DEFAULT_ACCOUNT = "default"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HOST_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
LABELLED = re.compile(r"(?:(?P<label>[A-Za-z0-9_.-]{1,64}):)?(?P<token>\S+)")


def _safe_url(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        # No cause, because its text may quote the value.
        raise ValueError("must be https://HOST and nothing more") from None
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        if _is_host(parts) and not parts.query and not parts.fragment and not parts.username:
            return value.rstrip("/")
        raise ValueError("must be https://HOST and nothing more")
    raise ValueError("must start with https:// (http:// is allowed only for this machine)")


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        # `port` raises ValueError for a bad port. `urlsplit` has validated an IPv6 address in brackets already.
        return parts.port != 0 and (":" in host or all(HOST_LABEL.fullmatch(label) for label in host.split(".")))
    except ValueError:
        return False


def _tokens(value: SecretStr) -> SecretStr:
    parse_tokens(value, "token")
    return value


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < SHORTEST_TOKEN:
        raise ValueError(f"must have at least {SHORTEST_TOKEN} characters; make one with {GENERATOR}")
    return value


BaseUrl = Annotated[str, AfterValidator(_safe_url)]
Tokens = Annotated[SecretStr, AfterValidator(_tokens)]


class Authorization(BaseModel):
    """The credentials of one Sailthru account."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    api_key: str = Field(min_length=1, repr=False)
    api_secret: str = Field(min_length=1, repr=False)
    base_url: BaseUrl = "https://api.sailthru.com"


class Settings(BaseSettings):
    """The settings, from the environment, a `.env` file, or files in `SECRETS_DIR`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True, frozen=True
    )

    # An SQLite file, or postgresql://USER:PASSWORD@HOST/DATABASE for any number of replicas.
    database_url: str = "sqlite:///data/lytics-sailthru.db"

    # Tokens are comma-separated, each as TOKEN or LABEL:TOKEN.
    # The tokens that Lytics sends with its webhooks.
    webhook_tokens: Tokens = SecretStr("")
    # The tokens of operators and scripts. The command line sends the first of them.
    admin_tokens: Tokens = SecretStr("")
    # The tokens for /metrics. If empty, /metrics takes the admin tokens.
    metrics_tokens: Tokens = SecretStr("")
    # The key of the digests that recognise erased people. Without it, erasures are refused.
    erasure_key: Annotated[SecretStr, AfterValidator(_long_enough)] | None = None

    # The token to read audiences, fields and members. Without it, operators name the exports.
    lytics_api_token: SecretStr | None = None
    lytics_base_url: BaseUrl = "https://api.lytics.io"

    # The Sailthru account `default`.
    sailthru_api_key: SecretStr | None = None
    sailthru_api_secret: SecretStr | None = None
    sailthru_base_url: BaseUrl = "https://api.sailthru.com"
    # Further Sailthru accounts by label, as JSON.
    sailthru_authorizations: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], Authorization] = {}

    # Whether the first event of an unknown audience starts its export to the account `default`.
    auto_export: bool = True

    # The address and port that the service listens on.
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    # The addresses of proxies whose X-Forwarded headers are trusted.
    forwarded_allow_ips: str = "127.0.0.1"
    # The address of the running service for the command line.
    service_url: BaseUrl = "http://127.0.0.1:8000"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    # The timeout of one call to Sailthru, and the number of concurrent calls per account.
    sailthru_timeout_seconds: float = Field(default=15, ge=0.1, le=300)
    sailthru_concurrency: int = Field(default=64, ge=1, le=1000)
    # The part of Sailthru's rate limit that the service may use.
    sailthru_rate_share: float = Field(default=0.8, gt=0, le=1)
    # The wait before the first retry. It doubles up to the longest wait. Retries end after the window.
    retry_first_wait_seconds: float = Field(default=5, gt=0, le=3600)
    retry_longest_wait_seconds: float = Field(default=3600, gt=0, le=86400)
    retry_window_hours: float = Field(default=76, gt=0, le=8760)
    # The retention of timelines and counts per minute.
    journal_days: float = Field(default=14, gt=0, le=3650)
    # The time without webhooks after which an export is reported as silent. 0 turns this off.
    silent_after_hours: float = Field(default=24, ge=0, le=8760)

    @model_validator(mode="after")
    def _are_consistent(self) -> Self:
        if (self.sailthru_api_key is None) != (self.sailthru_api_secret is None):
            raise ValueError("SAILTHRU_API_KEY and SAILTHRU_API_SECRET belong together: set both or neither")
        if self.sailthru_api_key is not None and DEFAULT_ACCOUNT in self.sailthru_authorizations:
            raise ValueError(
                "the authorization 'default' is set twice: by SAILTHRU_API_KEY and in SAILTHRU_AUTHORIZATIONS"
            )
        labels: dict[tuple[str, str], str] = {}
        for label, account in self.accounts().items():
            other = labels.setdefault((account.api_key, account.base_url), label)
            if other != label:
                raise ValueError(
                    f"the Sailthru authorizations {other!r} and {label!r} have the same key and host: remove one"
                )
        if self.retry_longest_wait_seconds < self.retry_first_wait_seconds:
            raise ValueError("RETRY_LONGEST_WAIT_SECONDS must not be less than RETRY_FIRST_WAIT_SECONDS")
        return self

    def accounts(self) -> dict[str, Authorization]:
        """Return the Sailthru accounts by label. `default` is the account of SAILTHRU_API_KEY."""
        if self.sailthru_api_key is None or self.sailthru_api_secret is None:
            return dict(self.sailthru_authorizations)
        default = Authorization(
            api_key=self.sailthru_api_key.get_secret_value(),
            api_secret=self.sailthru_api_secret.get_secret_value(),
            base_url=self.sailthru_base_url,
        )
        return {DEFAULT_ACCOUNT: default, **self.sailthru_authorizations}

    def first_admin_token(self) -> str:
        """Return the token that the command line sends to the running service.

        Raises:
            BadSettings: ADMIN_TOKENS is empty.
        """
        tokens = parse_tokens(self.admin_tokens, "ADMIN_TOKENS")
        if not tokens:
            raise BadSettings(
                "ADMIN_TOKENS is not set: add an admin token of the running service to .env or the environment."
            )
        return next(iter(tokens.values()))

    def require_for_serving(self) -> None:
        """Check the settings that the service needs and the command line does not.

        Raises:
            BadSettings: a setting is missing or unsafe. The text names it and the remedy.
        """
        for name in ("webhook_tokens", "admin_tokens"):
            if not parse_tokens(getattr(self, name), name.upper()):
                raise BadSettings(f"{name.upper()} is not set: make a token with {GENERATOR} and add it to .env.")
        sent_by_lytics = set(parse_tokens(self.webhook_tokens, "WEBHOOK_TOKENS").values())
        if sent_by_lytics.intersection(parse_tokens(self.admin_tokens, "ADMIN_TOKENS").values()):
            raise BadSettings(
                "WEBHOOK_TOKENS and ADMIN_TOKENS share a token, so every reader of the webhook in Lytics would be an "
                f"admin here: make another token for ADMIN_TOKENS with {GENERATOR}."
            )
        accounts = self.accounts()
        if not accounts:
            raise BadSettings(
                "No Sailthru account is set: add SAILTHRU_API_KEY and SAILTHRU_API_SECRET to .env "
                "(My Sailthru > Settings > Setup > API & Postbacks)."
            )
        if self.auto_export and DEFAULT_ACCOUNT not in accounts:
            raise BadSettings(
                "AUTO_EXPORT exports new audiences to the authorization 'default', which is not set: "
                "set SAILTHRU_API_KEY and SAILTHRU_API_SECRET, or AUTO_EXPORT=false."
            )


def parse_tokens(value: SecretStr, name: str) -> dict[str, str]:
    """Return the tokens of a comma-separated setting by label. The label of the first token defaults to `token-1`.

    Raises:
        ValueError: a token is too short, or a label is used twice.
    """
    tokens: dict[str, str] = {}
    for number, part in enumerate((p.strip() for p in value.get_secret_value().split(",") if p.strip()), start=1):
        match = LABELLED.fullmatch(part)
        if match is None or len(match["token"]) < SHORTEST_TOKEN:
            raise ValueError(f"{name} number {number} must have at least {SHORTEST_TOKEN} characters and no spaces")
        label = match["label"] or f"token-{number}"
        if label in tokens:
            raise ValueError(f"the label {label!r} is used twice")
        tokens[label] = match["token"]
    return tokens


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Load the settings from the environment, `.env`, and the files in `SECRETS_DIR` if that is set.

    Raises:
        BadSettings: the text has one sentence for each wrong setting, and never a value.
    """
    secrets_dir = os.environ.get("SECRETS_DIR") or None
    if secrets_dir is not None and not Path(secrets_dir).is_dir():
        raise BadSettings(f"SECRETS_DIR is {secrets_dir}, which is not a folder: create it or unset SECRETS_DIR.")
    try:
        given: dict[str, Any] = {"_secrets_dir": secrets_dir, **(overrides or {})}
        return Settings(**given)
    except SettingsError as error:
        # The error's text names the field in quotes. The cause is dropped, because its text shows the value.
        name = (re.findall(r'"(\w+)"', str(error)) or ["A setting"])[0].upper()
        raise BadSettings(f"{name} must be JSON, as in .env.example.") from None
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        raise BadSettings(" ".join(_sentence(problem["loc"], problem["msg"]) for problem in problems)) from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    reason = message.removeprefix("Value error, ")
    if not location:
        return f"{reason[0].upper()}{reason[1:]}."
    setting, *parts = map(str, location)
    where = f" ({'.'.join(parts)})" if parts else ""
    return f"{setting.upper()}{where}: {reason}."
