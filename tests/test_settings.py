"""Settings: the sources, the rules, and one sentence for each wrong setting."""

import json
from pathlib import Path

import pytest

from app.domain.errors import BadSettings
from app.settings import DEFAULT_ACCOUNT, Settings, load_settings, parse_tokens

TOKEN, OTHER = "sesame-" + "a" * 16, "sesame-" + "b" * 16
ENOUGH = {
    "WEBHOOK_TOKENS": TOKEN,
    "ADMIN_TOKENS": OTHER,
    "SAILTHRU_API_KEY": "sesame-key",
    "SAILTHRU_API_SECRET": "sesame-secret",
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove all settings from the environment, and change to a folder without `.env`."""
    for name in (*(name.upper() for name in Settings.model_fields), "SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def put(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def authorizations(**accounts: object) -> dict[str, str]:
    return {"SAILTHRU_AUTHORIZATIONS": json.dumps(accounts)}


SHOP = {"api_key": "sesame-shop", "api_secret": "sesame-secret"}


class TestRules:
    @pytest.mark.parametrize(
        ("values", "name"),
        [
            ({"WEBHOOK_TOKENS": "sesame"}, "WEBHOOK_TOKENS"),
            ({"ADMIN_TOKENS": f"{TOKEN},sesame"}, "ADMIN_TOKENS"),
            ({"METRICS_TOKENS": "sesame with many spaces"}, "METRICS_TOKENS"),
            ({"ADMIN_TOKENS": f"ops:{TOKEN},ops:{OTHER}"}, "ADMIN_TOKENS"),
            ({"ERASURE_KEY": "sesame"}, "ERASURE_KEY"),
            ({"SAILTHRU_BASE_URL": "http://sesame.example.com"}, "SAILTHRU_BASE_URL"),
            ({"SERVICE_URL": "http://sesame.example.com"}, "SERVICE_URL"),
            ({"LYTICS_BASE_URL": "https://sesame:word@example.com"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://example.com?key=sesame"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://example.com#sesame"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https:///sesame"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://[sesame"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://[sesame]"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://example.com:sesame"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://sesame.example.com:99999"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://sesame example.com"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": f"https://sesame{'e' * 60}.com"}, "LYTICS_BASE_URL"),
            ({"LYTICS_BASE_URL": "https://sesame..com"}, "LYTICS_BASE_URL"),
            ({"SAILTHRU_API_KEY": "sesame"}, "SAILTHRU_API_SECRET"),
            ({"SAILTHRU_API_SECRET": "sesame"}, "SAILTHRU_API_KEY"),
            (ENOUGH | authorizations(default=SHOP), "SAILTHRU_AUTHORIZATIONS"),
            (authorizations(shop=SHOP, again=SHOP), "'shop' and 'again'"),
            (
                ENOUGH | authorizations(shop={"api_key": "sesame-key", "api_secret": "sesame-secret"}),
                "'default' and 'shop'",
            ),
            (authorizations(shop={"api_key": "sesame"}), "SAILTHRU_AUTHORIZATIONS"),
            (authorizations(shop={**SHOP, "more": "sesame"}), "SAILTHRU_AUTHORIZATIONS"),
            (authorizations(shop={**SHOP, "base_url": "http://sesame.example.com"}), "SAILTHRU_AUTHORIZATIONS"),
            (authorizations(**{"a shop": SHOP}), "SAILTHRU_AUTHORIZATIONS"),
            ({"SAILTHRU_AUTHORIZATIONS": '["sesame"]'}, "SAILTHRU_AUTHORIZATIONS"),
            ({"AUTO_EXPORT": "sesame"}, "AUTO_EXPORT"),
            ({"PORT": "sesame"}, "PORT"),
            ({"PORT": "65536"}, "PORT"),
            ({"LOG_LEVEL": "sesame"}, "LOG_LEVEL"),
            ({"SAILTHRU_TIMEOUT_SECONDS": "0"}, "SAILTHRU_TIMEOUT_SECONDS"),
            ({"SAILTHRU_TIMEOUT_SECONDS": "nan"}, "SAILTHRU_TIMEOUT_SECONDS"),
            ({"SAILTHRU_CONCURRENCY": "0"}, "SAILTHRU_CONCURRENCY"),
            ({"RETRY_FIRST_WAIT_SECONDS": "0"}, "RETRY_FIRST_WAIT_SECONDS"),
            ({"RETRY_WINDOW_HOURS": "-1"}, "RETRY_WINDOW_HOURS"),
            (
                {"RETRY_FIRST_WAIT_SECONDS": "20", "RETRY_LONGEST_WAIT_SECONDS": "10"},
                "RETRY_LONGEST_WAIT_SECONDS must not be less than RETRY_FIRST_WAIT_SECONDS",
            ),
            ({"SAILTHRU_AUTHORIZATIONS": "{sesame"}, "SAILTHRU_AUTHORIZATIONS"),
        ],
    )
    def test_error_names_the_setting_but_not_its_value(
        self, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], name: str
    ) -> None:
        """The error has no cause that would show the value in a traceback."""
        put(monkeypatch, values)
        with pytest.raises(BadSettings) as caught:
            load_settings()

        sentence = str(caught.value)
        assert name in sentence
        assert "sesame" not in sentence
        assert "\n" not in sentence
        assert sentence.endswith(".")
        assert sentence[0].isupper() or sentence.startswith("the ")
        assert caught.value.__suppress_context__

    def test_every_wrong_setting_gets_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put(monkeypatch, {"PORT": "sesame", "LOG_LEVEL": "sesame"} | authorizations(shop={"api_key": "sesame"}))
        with pytest.raises(BadSettings) as caught:
            load_settings()

        sentence = str(caught.value)
        for name in ("PORT: ", "LOG_LEVEL: ", "SAILTHRU_AUTHORIZATIONS (shop.api_secret): "):
            assert name in sentence
        assert "sesame" not in sentence

    def test_defaults(self) -> None:
        settings = load_settings()

        assert settings.database_url == "sqlite:///data/lytics-sailthru.db"
        assert (settings.host, settings.port) == ("127.0.0.1", 8000)
        assert settings.sailthru_base_url == "https://api.sailthru.com"
        assert settings.lytics_base_url == "https://api.lytics.io"
        assert settings.service_url == "http://127.0.0.1:8000"
        assert settings.auto_export
        assert (settings.sailthru_timeout_seconds, settings.sailthru_concurrency) == (15, 64)
        assert settings.accounts() == {}

    def test_an_empty_variable_is_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`.env` may be a copy of `.env.example` that is not filled in."""
        put(monkeypatch, {"PORT": "", "SAILTHRU_API_KEY": "", "SAILTHRU_AUTHORIZATIONS": "", "SECRETS_DIR": ""})
        settings = load_settings()

        assert (settings.port, settings.sailthru_api_key, settings.sailthru_authorizations) == (8000, None, {})

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
            ("http://localhost:8001/", "http://localhost:8001"),
            ("http://[::1]:8001", "http://[::1]:8001"),
            ("https://api.example.com/", "https://api.example.com"),
        ],
    )
    def test_base_urls(self, monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
        put(monkeypatch, {"SAILTHRU_BASE_URL": given})

        assert load_settings().sailthru_base_url == expected

    def test_accounts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`default` is the account of SAILTHRU_API_KEY. One key at two hosts means two accounts."""
        sandbox = {"api_key": "sesame-key", "api_secret": "sesame-secret", "base_url": "http://localhost:8001"}
        put(monkeypatch, ENOUGH | authorizations(shop=SHOP, sandbox=sandbox))
        accounts = load_settings().accounts()

        assert list(accounts) == [DEFAULT_ACCOUNT, "shop", "sandbox"]
        assert accounts["default"].api_key == "sesame-key"
        assert accounts["sandbox"].base_url == "http://localhost:8001"

    def test_printed_settings_show_no_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        secrets = {"LYTICS_API_TOKEN": "sesame", "ERASURE_KEY": "sesame-sesame-sesame"}
        put(monkeypatch, ENOUGH | secrets | authorizations(shop=SHOP))
        settings = load_settings()

        assert "sesame" not in repr(settings)
        assert "sesame" not in repr(settings.accounts())


class TestTokens:
    def test_labels(self) -> None:
        """The default label is `token-` and the position. Empty entries do not count."""
        settings = Settings.model_validate({"webhook_tokens": f" a:{TOKEN} ,, {OTHER},"})

        assert parse_tokens(settings.webhook_tokens, "WEBHOOK_TOKENS") == {"a": TOKEN, "token-2": OTHER}


class TestServing:
    def test_two_tokens_and_an_account_are_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put(monkeypatch, ENOUGH)

        load_settings().require_for_serving()

    @pytest.mark.parametrize(
        ("missing", "words"),
        [
            ({"WEBHOOK_TOKENS"}, ["WEBHOOK_TOKENS is not set", "secrets.token_urlsafe", ".env"]),
            ({"ADMIN_TOKENS"}, ["ADMIN_TOKENS is not set", "secrets.token_urlsafe", ".env"]),
            ({"SAILTHRU_API_KEY", "SAILTHRU_API_SECRET"}, ["No Sailthru account", "SAILTHRU_API_KEY", "My Sailthru"]),
        ],
    )
    def test_missing_setting_is_named_with_a_remedy(
        self, monkeypatch: pytest.MonkeyPatch, missing: set[str], words: list[str]
    ) -> None:
        put(monkeypatch, {name: value for name, value in ENOUGH.items() if name not in missing})
        with pytest.raises(BadSettings) as caught:
            load_settings().require_for_serving()

        assert all(word in str(caught.value) for word in words)
        assert "sesame" not in str(caught.value)

    def test_auto_export_needs_the_default_account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = {"WEBHOOK_TOKENS": TOKEN, "ADMIN_TOKENS": OTHER}
        put(monkeypatch, tokens | authorizations(shop=SHOP))
        with pytest.raises(BadSettings, match="AUTO_EXPORT=false"):
            load_settings().require_for_serving()
        put(monkeypatch, {"AUTO_EXPORT": "false"})

        load_settings().require_for_serving()


class TestCommands:
    def test_commands_need_only_the_first_admin_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put(monkeypatch, {"ADMIN_TOKENS": f"mine:{TOKEN},{OTHER}"})

        assert load_settings().first_admin_token() == TOKEN

    def test_missing_admin_token_is_explained(self) -> None:
        with pytest.raises(BadSettings, match="ADMIN_TOKENS is not set: add an admin token of the running service"):
            load_settings().first_admin_token()


class TestSources:
    def test_env_file(self, tmp_path: Path) -> None:
        """`.env` of the current folder is read. Unknown names are ignored."""
        (tmp_path / ".env").write_text(f"ADMIN_TOKENS=ops:{TOKEN}\nPORT=9000\nCOMPOSE_PROJECT_NAME=x\n")
        settings = load_settings()

        assert settings.port == 9000
        assert settings.admin_tokens.get_secret_value() == f"ops:{TOKEN}"

    def test_environment_wins_over_env_file_and_secrets_dir(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        for name in ("port", "host", "log_level"):
            (secrets / name).write_text({"port": "1\n", "host": "secrets\n", "log_level": "ERROR\n"}[name])
        (tmp_path / ".env").write_text("PORT=2\nHOST=env-file\n")
        put(monkeypatch, {"SECRETS_DIR": str(secrets), "PORT": "3"})
        settings = load_settings()

        assert (settings.port, settings.host, settings.log_level) == (3, "env-file", "ERROR")

    def test_secrets_from_files(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The line break at the end of a file is not part of the secret."""
        for name, value in ENOUGH.items():
            (tmp_path / name.lower()).write_text(f"{value}\n")
        monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
        settings = load_settings()
        settings.require_for_serving()

        assert settings.accounts()["default"].api_secret == "sesame-secret"

    def test_missing_secrets_dir_is_an_error(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "nowhere"))
        with pytest.raises(BadSettings, match=r"^SECRETS_DIR is .*nowhere, which is not a folder: .*\.$"):
            load_settings()

    def test_overrides_win(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put(monkeypatch, {"PORT": "3"})

        assert load_settings({"port": 4}).port == 4
