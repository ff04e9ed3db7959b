"""Faults as commands: kill, crash and fill the disk under runs, go on, and compare the bits with a run that nothing happened to.

    python -m tests.faults kill --count 200 --seed 1
    python -m tests.faults crash
    python -m tests.faults full-disk --count 100 --seed 1

Each prints what it did and exits with 1 if anything was lost. docs/faults.md has the counts. They need fork (not Windows).
"""
