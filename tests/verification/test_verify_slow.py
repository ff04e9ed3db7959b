"""All mutants, and all cases at other points: minutes, hence not among the tests marked `gradcheck`."""

import pytest

from c2f_np.verification.catalogue import cases
from c2f_np.verification.mutants import MUTANTS, kill
from c2f_np.verification.threads import one_kernel_thread

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_every_mutant_is_killed_by_each_operation_that_must_notice(mutant):
    for outcome in kill(mutant):
        assert outcome.killed, f"{outcome.operation} lets it pass: {mutant.name}"


@pytest.mark.parametrize("seed", range(2, 6))
def test_every_case_passes_at_other_points(seed):
    with one_kernel_thread():
        for case in cases(None, "numpy", seed):
            report = case.run(seed)
            assert report.passed, str(report)
