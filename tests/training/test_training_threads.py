"""How many threads train, unless the user says."""

from c2f_np.threads import available_cores, training_threads


def test_a_small_problem_trains_on_one_thread():
    assert training_threads(0, n_entries=30_000, width=32) == 1
    assert training_threads(0, n_entries=165_000, width=64) == available_cores()
    assert training_threads(3, n_entries=10, width=1) == 3
