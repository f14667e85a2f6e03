"""A running program that answers lines with lines, over pipes.

    request line -> stdin,   stdout -> answer line,   stderr -> its last 2,000 bytes, kept for error messages

One loop waits on the three pipes at once, so that a request, an answer or a stderr longer than a pipe holds
blocks neither side. The program ends with its `Program`: at garbage collection and at interpreter exit its
stdin is closed, and it is terminated if that does not end it. If this process is killed, the system closes
the pipe, and a program that reads its stdin sees the end of it.
"""

from __future__ import annotations

import io
import os
import selectors
import shlex
import signal
import subprocess
import warnings
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

_CHUNK = 2**16
_GRACE = 1.0
_PATIENCE = 30.0
_STDERR_BYTES, _STDERR_LINES = 2000, 12
_QUOTED = 200
_SIGNALS = {number.value: number.name for number in signal.Signals}


class Program:
    """A program started by this process, for one thread at a time. Raises `OSError` if it cannot start.

    answers: the number of requests that it has answered.
    """

    def __init__(self, command: Sequence[str], cwd: str) -> None:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._end = weakref.finalize(self, _end, process)
        self._process, self._owner = process, os.getpid()
        streams = cast("tuple[io.FileIO, ...]", (process.stdin, process.stdout, process.stderr))
        self._stdin, self._stdout, self._stderr = streams
        for stream in streams:
            os.set_blocking(stream.fileno(), False)
        self._pipes = selectors.PollSelector()
        for stream in (self._stdout, self._stderr):
            self._pipes.register(stream, selectors.EVENT_READ)
        self._unread = self._errors = b""
        self._warned = False
        self.answers = 0

    @property
    def belongs_here(self) -> bool:
        """Whether this process started the program, rather than a process that it was forked from."""
        return self._owner == os.getpid()

    def ask(self, request: bytes) -> bytes | None:
        """Send one line and wait for the answer, without its newline; None if the program ends first."""
        rest, parts = memoryview(request), [self._unread]
        answered, self._unread = b"\n" in self._unread, b""
        self._pipes.register(self._stdin, selectors.EVENT_WRITE)
        while rest or not answered:
            patience = None if self.answers or self._warned else _PATIENCE
            ready = {key.fileobj for key, _ in self._pipes.select(patience)}
            if not ready:
                self._warn(sum(map(len, parts)))
            if self._stderr in ready:
                self._keep_stderr()
            if self._stdin in ready:
                rest = rest[self._write(rest) :]
                if not rest:
                    self._pipes.unregister(self._stdin)
            if self._stdout in ready:
                chunk = self._stdout.read(_CHUNK)
                parts.append(chunk or b"")
                answered = answered or b"\n" in parts[-1]
                if chunk == b"":
                    rest = rest[:0]
                    break
        with suppress(KeyError):
            self._pipes.unregister(self._stdin)
        line, newline, self._unread = b"".join(parts).partition(b"\n")
        if not newline:
            self._unread = line
            return None
        self.answers += 1
        return line

    def unasked(self) -> bytes:
        """What the program has printed since its last answer."""
        self._unread += self._stdout.read(_CHUNK) or b""
        return self._unread

    def kill(self) -> None:
        """End the program at once."""
        self._process.kill()
        self._end()

    def last_words(self) -> str:
        """How a program that did not answer ended, and the last lines of its stderr. Kills it if it runs."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        code = self._process.returncode
        while not self._stderr.closed and self._keep_stderr():
            pass
        self.kill()
        half = f", in the middle of a line, {quote(self._unread)}," if self._unread else ""
        if code is None:
            how = f"closed its stdout{half}"
        elif code < 0:
            how = f"was ended by {_SIGNALS.get(-code, f'signal {-code}')}{half}"
        else:
            how = f"exited with code {code}{half}"
        lines = self._errors.decode(errors="replace").splitlines()[-_STDERR_LINES:]
        said = ["The end of its stderr:", *lines] if lines else ["Its stderr is empty."]
        return f"{how} before it answered. " + "\n  ".join(said)

    def _write(self, rest: memoryview) -> int:
        try:
            return self._stdin.write(rest) or 0
        except BrokenPipeError:
            return len(rest)

    def _keep_stderr(self) -> bool:
        chunk = self._stderr.read(_CHUNK)
        if chunk == b"":
            with suppress(KeyError):
                self._pipes.unregister(self._stderr)
        self._errors = (self._errors + (chunk or b""))[-_STDERR_BYTES:]
        return bool(chunk)

    def _warn(self, length: int) -> None:
        self._warned = True
        command = shlex.join(cast("Sequence[str]", self._process.args))
        warnings.warn(
            f"`{command}` has not answered its first request for {_PATIENCE:.0f} s ({length} characters and "
            "no newline so far). If it is not merely slow: does it end the answer with a newline, and flush "
            "stdout?",
            stacklevel=2,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes and wait for the end; terminate and kill if need be. In a fork there is no child."""
    streams = [stream for stream in (process.stdin, process.stdout, process.stderr) if stream is not None]
    streams[0].close()
    for stop in (process.terminate, process.kill, None):
        try:
            process.wait(_GRACE)
            break
        except subprocess.TimeoutExpired:
            if stop is not None:
                stop()
    for stream in streams:
        stream.close()


def quote(output: bytes) -> str:
    """The first 200 characters of what a program printed, for a message."""
    text = output.decode(errors="replace")
    more = f" and {len(text) - _QUOTED:,} characters more" if len(text) > _QUOTED else ""
    return repr(text[:_QUOTED]) + more
