"""The two engines hold the same functions: same names, same parameters.

A compiled one may take further keywords, all with defaults.
"""

import inspect

import pytest

from c2f_np import kernels
from c2f_np.model import text


def test_both_engines_list_the_same_names():
    assert set(kernels.__all__) == set(text.__all__)


@pytest.mark.parametrize("name", text.__all__)
def test_parameters_agree(name):
    def described(engine):
        parameters = inspect.signature(getattr(engine, name)).parameters.values()
        return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]

    written, compiled = described(text), described(kernels)
    assert compiled[: len(written)] == written
    for further, kind, default in compiled[len(written) :]:
        assert kind is inspect.Parameter.KEYWORD_ONLY and default is not inspect.Parameter.empty, further
