"""Malformed files and odd options, many of them: none may end in a traceback, a crash, a hang, or memory beyond a limit.

    python -m tests.fuzz files --count 2000 --seed 0
    python -m tests.fuzz options --count 1000 --seed 0
    python -m tests.fuzz files --seed 0 --only 137        (one input again, with all that it printed)

An input is a function of (seed, number), so that a failure can be seen again. Each runs in a process that is watched from
outside: `worker` calls the command line as a user's process would, and is replaced when it dies or hangs. POSIX only.
"""
