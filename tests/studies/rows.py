"""A job's row with everything that one must have."""


def whole_row(job="a job", **changes):
    row = {name: "x" for name in ("data", "protocol", "run", "method", "fingerprint")}
    row |= {"job": job, "seed": 0, "status": "done", "error": None, "versions": {"numpy": "9"}, "peak_memory": None}
    return row | changes
