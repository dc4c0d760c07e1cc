"""Runs our commands in this process, which saves the start of a Python process for each."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from app.__main__ import main
from app.settings import Settings

API_CALL = re.compile(r"\b(?:GET|HEAD|POST|PUT|PATCH|DELETE) /")


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs commands in a separate folder, with only the given settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.folder = folder

    def run(self, *words: str, settings: Mapping[str, str] | None = None) -> Ended:
        self._capsys.readouterr()
        with self._monkeypatch.context() as patch, _own_logging():
            for name in (*(name.upper() for name in Settings.model_fields), "SECRETS_DIR", "COLUMNS"):
                patch.delenv(name, raising=False)
            for name, value in (settings or {}).items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            try:
                main(words)
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
        output = self._capsys.readouterr()
        if "--json" not in words:
            # The command line names commands, never calls of the API.
            assert not API_CALL.search(output.out + output.err)
        return Ended(code, output.out, output.err)


@contextmanager
def _own_logging() -> Iterator[None]:
    """Restore the logging of this process afterwards, because commands configure it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
