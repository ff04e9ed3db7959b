"""How many tests run side by side."""

from c2f_np.threads import available_cores


def pytest_xdist_auto_num_workers(config):
    """One worker more than cores: many tests wait for a process, a browser or a clock."""
    return available_cores() + 1
