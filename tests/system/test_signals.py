"""Signals: partial output is removed, and the signal itself ends the process."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from helpers.networks import random_network

from eqinfo.coder import arithmetic_coding
from eqinfo.formats.codec import ArithmeticCodec
from eqinfo.system import signals
from eqinfo.text.frames import Frame


def ends(code: str, ignored: int | None = None) -> tuple[int, str]:
    """The status of a program that uses `signals`, and what it printed."""
    code = f"import os, signal; from eqinfo.system import signals\n{code}"
    begin: Callable[[], object] = lambda: [  # noqa: E731
        signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU)
    ]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, preexec_fn=begin
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_what_is_half_done_is_undone_by_errors_and_kept_otherwise() -> None:
    undone = list[str]()
    with signals.undoing(lambda: undone.append("kept")):
        pass
    with pytest.raises(KeyboardInterrupt), signals.undoing(lambda: undone.append("undone")):
        raise KeyboardInterrupt
    assert undone == ["undone"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU])
def test_a_signal_undoes_the_innermost_first_and_ends_the_process(number: int) -> None:
    code = (
        "signals.end_on_signals()\n"
        "with signals.undoing(lambda: print('outer', flush=True)):\n"
        "  with signals.undoing(lambda: print('inner', flush=True)):\n"
        f"    signal.raise_signal({int(number)})\n"
    )
    assert ends(code) == (-number, "inner\nouter\n")
    assert ends(code + "print('on')", ignored=number) == (0, "on\n")


def test_a_signal_ends_a_program_even_where_exceptions_are_lost() -> None:
    code = (
        "signals.end_on_signals()\n"
        "class Lossy:\n"
        "  def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "Lossy()\n"
        "print('still here')\n"
    )
    assert ends(code) == (-signal.SIGINT, "")


def test_signals_that_are_held_back_come_at_the_end_of_the_block() -> None:
    code = (
        "signals.end_on_signals()\n"
        "with signals.undoing(lambda: print('undone', flush=True)):\n"
        "  with signals.held_back():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('to the end', flush=True)\n"
        "  print('still here', flush=True)\n"
    )
    assert ends(code) == (-signal.SIGTERM, "to the end\nundone\n")


def test_requests_to_stop_are_heard_once_and_only_ctrl_c_insists() -> None:
    code = (
        "signals.end_on_signals()\n"
        "with signals.stop_requests(lambda: print('told')) as asked:\n"
        "  for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM): signal.raise_signal(number)\n"
        "  print(int(asked()), flush=True)\n"
        "  {}\n"
        "print('end', flush=True)\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    told = f"told\n{int(signal.SIGHUP)}\n"
    assert ends(code.format("pass")) == (-signal.SIGTERM, told + "end\n")
    assert ends(code.format("signal.raise_signal(signal.SIGINT)")) == (-signal.SIGINT, told)


def test_slow_compiled_code_leaves_the_main_thread_free_for_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[int]()

    def encode(*_: object) -> bytes:
        threads.append(threading.get_ident())
        return b""

    def decode(*_: object) -> tuple[bytes, list[int]]:
        threads.append(threading.get_ident())
        raise ValueError("damaged")

    monkeypatch.setattr(arithmetic_coding, "encode", encode)
    monkeypatch.setattr(arithmetic_coding, "decode", decode)
    codec = ArithmeticCodec(random_network())
    assert codec.encode(Frame(b"text")) == (1, b"\0")
    with pytest.raises(ValueError, match="damaged"):
        codec.decode(1, b"\0", 4)
    assert len(threads) == 2
    assert threading.get_ident() not in threads


def test_a_pipe_that_nobody_reads_is_an_error_for_one_block_in_any_thread() -> None:
    code = (
        "import threading\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "reader, writer = os.pipe()\n"
        "os.close(reader)\n"
        "def write():\n"
        "    try:\n"
        "        with signals.broken_pipes_are_errors():\n"
        "            os.write(writer, b'a')\n"
        "    except BrokenPipeError:\n"
        "        print('told', flush=True)\n"
        "thread = threading.Thread(target=write)\n"
        "thread.start()\n"
        "thread.join()\n"
        "write()\n"
        "os.write(writer, b'a')\n"
    )
    assert ends(code) == (-signal.SIGPIPE, "told\ntold\n")
