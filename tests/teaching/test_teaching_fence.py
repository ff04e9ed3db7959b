"""The fence: what a student's process must not do raises PermissionError, and what notebooks do works."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, shutil, signal, socket, subprocess, sys
from pathlib import Path
from c2f_np.teaching.fence import put_up

folder, others = sys.argv[1:]
put_up({"folder": folder, "closed": [others], "memory": 4 << 30})
attempts = {
    "write outside": lambda: Path(others, "new.txt").write_text("x"),
    "append outside": lambda: open(Path(others, "marks.csv"), "a"),
    "read other work": lambda: Path(others, "marks.csv").read_text(),
    "list other work": lambda: os.listdir(others),
    "leave by a link": lambda: os.symlink(others, "elsewhere"),
    "delete": lambda: os.remove(Path(others, "marks.csv")),
    "delete a tree": lambda: shutil.rmtree(others),
    "move in": lambda: os.rename(Path(others, "marks.csv"), "marks.csv"),
    "move out": lambda: os.rename("own.txt", Path(others, "own.txt")),
    "command": lambda: os.system("true"),
    "process": lambda: subprocess.run(["true"]),
    "fork": os.fork,
    "kill": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
    "look up": lambda: socket.getaddrinfo("localhost", 80),
    "more memory": lambda: __import__("resource").setrlimit(__import__("resource").RLIMIT_AS, (-1, -1)),
    "native code": lambda: __import__("ctypes").CDLL("libc.so.6"),
    "native code of one's own": lambda: __import__("ctypes").CDLL("./own.so"),
    "environment of the parent": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "answers": lambda: __import__("c2f_np.course"),
}
Path("own.txt").write_text("mine")
Path("own.so").write_text("")
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "done"
    except BaseException as error:
        found[name] = type(error).__name__
import numpy as np
np.save("own.npy", np.linalg.inv(np.eye(3)))
found["own files"] = Path("own.txt").read_text() + str(np.load("own.npy").shape)
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
def test_what_is_kept_out_and_what_works(tmp_path):
    own, others = tmp_path / "own", tmp_path / "others"
    own.mkdir()
    others.mkdir()
    (others / "marks.csv").write_text("name,points\n")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(own), str(others)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("own files") == "mine(3, 3)"
    assert set(found.values()) == {"PermissionError"}, found
    assert sorted(path.name for path in others.iterdir()) == ["marks.csv"]
    assert (others / "marks.csv").read_text() == "name,points\n"
