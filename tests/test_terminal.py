"""Output on a terminal and in a pipe."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import terminal
from app.terminal import WIDE, Bar, moment, plain, say, show_table
from tests.promises.processes import ROOT

TIMEOUT_SECONDS = 30


@dataclass
class Terminal:
    """A pseudo-terminal with a program on it."""

    screen: int
    program: "subprocess.Popen[str]"
    seen: str = ""

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while words not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.screen], [], [], 0.1)[0]:
                self.seen += os.read(self.screen, 65536).decode()

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def end(self) -> tuple[int, str]:
        """Wait for the program, and return its exit code and its standard output, which is a pipe."""
        out, _ = self.program.communicate(timeout=TIMEOUT_SECONDS)
        return self.program.returncode, out


@contextmanager
def on_a_terminal(folder: Path, code: str) -> Iterator[Terminal]:
    """Run Python code with a terminal as standard input and standard error."""
    screen, program_side = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=program_side,
        stdout=subprocess.PIPE,
        stderr=program_side,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        text=True,
    )
    os.close(program_side)
    try:
        yield Terminal(screen, program)
    finally:
        if program.poll() is None:
            program.kill()
            program.communicate()
        os.close(screen)


ASKING = """
import sys
from app.commands.options import confirm
import typer
def run():
    confirm("Stop it?", is_confirmed=False)
    print("done")
typer.run(run)
"""


@pytest.mark.parametrize(
    ("keys", "code", "out"), [("y\n", 0, "done\n"), ("n\n", 1, ""), ("\n", 1, ""), ("\x04", 1, "")]
)
def test_only_yes_confirms(tmp_path: Path, keys: str, code: int, out: str) -> None:
    """The question is on standard error. End of input means no."""
    with on_a_terminal(tmp_path, ASKING) as screen:
        screen.wait_for("Stop it? [y/N]")
        screen.type(keys)

        assert screen.end() == (code, out)


WAITING = """
import sys
from app.terminal import waiting
with waiting("Waiting for it"):
    sys.stdin.readline()
print("done")
"""


def test_long_wait_shows_a_spinner(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path, WAITING) as screen:
        screen.wait_for("Waiting for it")
        screen.type("\n")

        assert screen.end() == (0, "done\n")


def test_short_wait_shows_no_spinner(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path, WAITING) as screen:
        screen.type("\n")
        ended = screen.end()
        screen.type("\n")
        screen.wait_for("\n")

        assert ended == (0, "done\n")
        assert "Waiting" not in screen.seen


def test_pipe_shows_no_spinner(tmp_path: Path) -> None:
    code = "import time\nfrom app.terminal import waiting\nwith waiting('Waiting for it'):\n    time.sleep(1.5)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )

    assert (done.stdout, done.stderr) == ("", "")


MOVING = """
import sys
from app.terminal import Bar
with Bar() as bar:
    bar.show(0, None, ["0 read"])
    sys.stdin.readline()
    bar.say("It is many.")
    bar.show(50, 100, ["50 of 100", "[b]5/s[/b]"], below="Waiting: for\x1b[31m you.")
    sys.stdin.readline()
    bar.show(100, 100, ["100 of 100"])
print("done")
"""


def test_bar_moves_on_a_terminal(tmp_path: Path) -> None:
    """The bar is on standard error and stays at the end. Control characters and markup are not interpreted."""
    with on_a_terminal(tmp_path, MOVING) as screen:
        screen.wait_for("0 read")
        screen.type("\n")
        screen.wait_for("50 of 100, [b]5/s[/b]")
        screen.wait_for("Waiting: for\N{REPLACEMENT CHARACTER}[31m you.")
        screen.type("\n")
        screen.wait_for("100 of 100")

        assert screen.end() == (0, "done\n")
        assert "It is many." in screen.seen


def test_bar_in_a_pipe_is_a_line_at_intervals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`say` prints at once. A quiet bar prints nothing."""
    for every, is_quiet in ((60.0, False), (0.0, False), (0.0, True)):
        monkeypatch.setattr(terminal, "LINE_EVERY_SECONDS", every)
        with Bar(is_quiet=is_quiet) as bar:
            bar.say(f"Each {every:g} s.")
            bar.show(1, 2, ["1 of 2", "1/s"], below="Waiting: for you.")
    output = capsys.readouterr()

    assert (output.out, output.err) == ("", "Each 60 s.\nEach 0 s.\n1 of 2, 1/s. Waiting: for you.\n")


def test_pipe_wraps_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "word " * 100
    say(long.strip())
    show_table(["name", "value"], [("Lytics " + "x" * 100, "y" * 50)])
    out = capsys.readouterr().out

    assert out.splitlines()[0] == long.strip()
    assert re.search(r"Lytics x{100} +y{50}", out)
    assert max(map(len, out.splitlines()[1:])) <= WIDE


def test_wide_table_is_wrapped_not_cut_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_table(["name", "value"], [("n" * 30, "v" * 30)])
    out = capsys.readouterr().out

    assert (out.count("n"), out.count("v")) == (31, 31)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        ("Zoë 🙂", "Zoë 🙂"),
        ("\x1b[2J", "\N{REPLACEMENT CHARACTER}[2J"),
        ("a\nb\r", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
        ("\u202eabc", "\N{REPLACEMENT CHARACTER}abc"),
    ],
)
def test_control_characters_are_replaced(value: object, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "-"),
        ("2026-11-25T12:00:03.123456Z", "2026-11-25 12:00:03"),
        ("2026-11-25T14:00:03+02:00", "2026-11-25 12:00:03"),
    ],
)
def test_moment_is_in_utc(given: str | None, expected: str) -> None:
    assert moment(given) == expected
