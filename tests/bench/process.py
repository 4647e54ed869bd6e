"""Processes that are started, measured and ended; whatever they started themselves ends with them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

Found = TypeVar("Found")


def cpu_ns(pid: int) -> int | None:
    """CPU time of a process in nanoseconds, of all its threads; None if it is gone.

    /proc/PID/task/*/schedstat forgets threads that ended, and /proc/PID/stat counts in hundredths of a second: this is the clock
    that clock_getcpuclockid(3) names.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def status_kb(pid: int, field: str) -> int:
    """A number of /proc/PID/status: VmRSS and VmHWM in kB, Threads; 0 for what it does not have."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


class Process:
    """A program in a group of its own, running until the end of its `with`. Its output goes to a file.

    Start it from a thread that outlives it: it is told to end when that thread does, so that nothing stays behind when the
    benchmark itself is killed.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        end_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self.name = Path(arguments[0]).name
        self._end_signal = end_signal
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                preexec_fn=_end_with_parent(end_signal),
            )
        self.pid = self._child.pid

    def cpu_ns(self) -> int:
        """CPU time since its start, in nanoseconds."""
        spent = cpu_ns(self.pid)
        if spent is None:
            raise RuntimeError(self._ended())
        return spent

    def resident_kb(self) -> int:
        """Resident memory now, in kB."""
        return status_kb(self.pid, "VmRSS")

    def peak_kb(self) -> int:
        """The most resident memory it ever had, in kB."""
        return status_kb(self.pid, "VmHWM")

    def threads(self) -> int:
        """How many threads it has now."""
        return status_kb(self.pid, "Threads")

    def wait_for(self, wanted: str, find: Callable[[], Found | None], seconds: float = 60) -> Found:
        """What `find` returns as soon as it is not None; an error with the end of the log after so many seconds."""
        deadline = time.monotonic() + seconds
        while (found := find()) is None:
            if self._child.poll() is not None:
                raise RuntimeError(self._ended())
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: waited {seconds:.0f} s for {wanted}\n{self._last_words()}")
            time.sleep(0.002)
        return found

    def end(self) -> None:
        """Ends it and what it started, by force if it takes longer than ten seconds."""
        if self._child.poll() is None:
            self._child.send_signal(self._end_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(10)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def _ended(self) -> str:
        return f"{self.name} ended with {self._child.poll()}\n{self._last_words()}"

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])


@dataclass(frozen=True)
class Run:
    """A command that came to its end."""

    seconds: float
    cpu_seconds: float
    code: int


def run(arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Run:
    """Runs a command to its end, without its output; its CPU time includes that of the processes it waited for."""
    command = [str(argument) for argument in arguments]
    actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, {**os.environ, **(environment or {})}, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    return Run(seconds, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status))


def peak_kb_of(arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> int:
    """Peak memory of a command, or of the largest process that it started, in kB.

    Not from wait4 here: a child begins with the peak of the process that forked it, and Python is larger than what is measured.
    time(1) is small.
    """
    done = subprocess.run(
        ["/usr/bin/time", "--quiet", "-f", "%M", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    return int(done.stderr.split()[-1])


def _end_with_parent(number: signal.Signals) -> Callable[[], None]:
    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))

    return ask
