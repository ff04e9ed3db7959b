"""Limits of a student's process, put up from inside before any of the student's code runs.

An audit hook cannot be taken off from Python again. It is a fence and no wall: native code can go round it. It keeps out what
students write, by accident or to see what happens; whoever marks work of people who attack machines needs a container as well.
"""

from __future__ import annotations

import os
import sys

#: The modules of the package that a student's process may use, and what these need.
_ALLOWED = ("c2f_np", "c2f_np._version", "c2f_np.errors", "c2f_np.files", "c2f_np.shown", "c2f_np.gradcheck", "c2f_np.teaching")
_NO_PROCESSES = (
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "pty.spawn", "os.kill", "os.killpg", "resource.setrlimit", "resource.prlimit",
)  # fmt: skip
_NO_NETWORK = (
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname", "socket.sendmsg",
    "socket.sendto",
)  # fmt: skip
#: How many paths these take; more that follow are no paths.
_WRITING = {
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.symlink": 2,
    "os.truncate": 1, "os.utime": 1, "sqlite3.connect": 1,
}  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def may_be_imported(name: str) -> bool:
    """Whether a module of the package is there for students."""
    return name in _ALLOWED or name.startswith("c2f_np.gradcheck.") or name in ("c2f_np.teaching.wire", "c2f_np.teaching.fence")


def put_up(limits: dict) -> None:
    """Put the limits up: `folder` (the student's own), `closed` (folders not to be read), `memory` in bytes."""
    # These load native libraries, which is refused afterwards.
    import ctypes  # noqa: F401

    import numpy.random  # noqa: F401
    import scipy.sparse.linalg  # noqa: F401

    _set_limits(limits["memory"])
    own, package = os.path.realpath(limits["folder"]), os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    os.chdir(own)
    root = os.path.dirname(package)
    readable = [own, *(os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, *sys.path) if path)]
    closed = [os.path.realpath(path) for path in limits["closed"]]
    if os.path.basename(root) != "site-packages":  # a clone of the repository, with notebooks and answers
        readable, closed = [path for path in readable if path != root], [*closed, root]
    sys.addaudithook(_hook(own, package, readable, closed))


def _hook(own: str, package: str, readable: list, closed: list):
    # Held here, so that replacing them in their modules changes nothing.
    real, join, text = os.path.realpath, os.path.join, os.fsdecode
    own_parts = tuple(join(package, *name.split(".")[1:]) for name in _ALLOWED[1:])
    null = real(os.devnull)
    processes, network, writing, writes = frozenset(_NO_PROCESSES), frozenset(_NO_NETWORK), dict(_WRITING), _WRITES
    proc = [f"/proc/{os.getpid()}", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys"]

    def is_in(path: str, folder: str) -> bool:
        return path == folder or path.startswith(join(folder, ""))

    def may_read(path: str) -> bool:
        if is_in(path, own):
            return True
        if is_in(path, package):
            cached = path.replace(join("__pycache__", ""), "")
            return path == package or cached.startswith((join(package, "__init__."), *own_parts))
        if path.startswith("/proc/"):
            return any(is_in(path, place) for place in proc)
        longest = max((len(place) for place in closed if is_in(path, place)), default=-1)
        return longest < max((len(place) for place in readable if is_in(path, place)), default=0)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or path is None:
                return
            path = real(text(path))
            if flags & writes and not is_in(path, own) and path != null:
                raise PermissionError(f"while marking, files are written only in the notebook's folder, not to {path}")
            if not flags & writes and not may_read(path):
                raise PermissionError(f"while marking, {path} cannot be read")
        elif event in ("os.listdir", "os.scandir"):
            if isinstance(arguments[0], (str, bytes)) and not may_read(real(text(arguments[0]))):
                raise PermissionError(f"while marking, {arguments[0]!r} cannot be read")
        elif event in writing:
            if event not in ("os.truncate", "os.utime", "sqlite3.connect") and arguments[-1] != -1:
                raise PermissionError(f"{event} with a folder's number is not allowed while marking")
            for path in arguments[: writing[event]]:
                if isinstance(path, (str, bytes)) and not is_in(real(text(path)), own):
                    raise PermissionError(f"while marking, {event} is allowed only in the notebook's folder")
        elif event in processes:
            raise PermissionError(f"while marking, {event} is not allowed")
        elif event in network:
            raise PermissionError("while marking, there is no network")
        elif event == "ctypes.dlopen":
            # A bare name is looked up among the system's libraries, and a file of the student's own may be anything.
            path = real(text(arguments[0])) if arguments[0] and "/" in text(arguments[0]) else own
            if is_in(path, own) or not may_read(path) or not any(is_in(path, place) for place in readable):
                raise PermissionError("while marking, ctypes is not allowed")

    return hook


def _set_limits(memory: int) -> None:
    """Of memory, of the size of a file, and no core dumps, where the system has such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, limit in (("RLIMIT_AS", memory), ("RLIMIT_FSIZE", 64 * 2**20), ("RLIMIT_CORE", 0)):
        resource.setrlimit(getattr(resource, name), (limit, limit))
