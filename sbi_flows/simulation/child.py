"""The child process of `sbi_flows.simulation.isolation`: serves requests until its parent ends."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection

_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent ends; elsewhere a broken pipe ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(descriptor: int) -> None:
    """Serve requests from the connection with that file descriptor."""
    parent = os.getppid()
    _end_with_parent()
    if os.getppid() != parent:
        return
    pipe = Connection(descriptor)
    try:
        simulator = pickle.loads(pipe.recv_bytes())
    except EOFError:
        return
    except BaseException:
        pipe.send(traceback.format_exc())
        return
    from sbi_flows.simulation.campaign import InProcess

    runner = InProcess(simulator)
    pipe.send("ready")
    while True:
        try:
            kind, event_shape, *args = pipe.recv()
        except EOFError:
            return
        if event_shape is not None:
            runner.settle(event_shape)
        if kind == "run":
            pipe.send(runner.run(*args))
        elif kind == "events":
            pipe.send(runner.events())
        else:
            for out in runner.each(*args):
                pipe.send(out)


if __name__ == "__main__":
    main(int(sys.argv[1]))
