"""The reader's own file: it grows, it is read again when it changes, and nothing in it is lost."""

import importlib.util
import runpy

import numpy as np
import pytest

from c2f_np.course import answers, exercise, my_model
from c2f_np.errors import DataError

SCALE = 2.0
TABLE = np.ones(3)


def doubled(x):
    return SCALE * x


def helped(x):
    return doubled(x) + np.sum(x)


def uses_table(x):
    return x * TABLE


def written(tmp_path, text):
    path = tmp_path / "cell.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("cell", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_grows_with_what_functions_need(tmp_path):
    path = tmp_path / "my_model.py"
    my = my_model(path)
    assert repr(my) == "my_model.py: nothing yet" and not path.exists()
    my.keep(helped)
    assert my.helped(np.ones(2)).tolist() == [4, 4]
    names = runpy.run_path(str(path))  # it stands alone
    assert names["helped"](1.0) == 3 and names["SCALE"] == 2.0
    assert repr(my) == "my_model.py: doubled, helped"


def test_a_function_takes_the_place_of_its_predecessor_and_the_rest_stays(tmp_path):
    path = tmp_path / "my_model.py"
    my = my_model(path)
    my.keep(doubled)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n# my own note\ndef mine():\n    return my.doubled(4)\n")
    assert my.mine() == 8, "the file is read again"
    my.keep(written(tmp_path, "def doubled(x):\n    return x + x + 1\n").doubled)
    text = path.read_text(encoding="utf-8")
    assert my.mine() == 9 and text.count("def doubled") == 1 and "# my own note" in text
    my.keep(helped, "other")
    assert my.other is my.helped


def test_functions_call_one_another_in_the_file(tmp_path):
    my = my_model(tmp_path / "my_model.py", or_answers=True)
    cell = written(tmp_path, "from scipy.special import expit as s\nimport math\ndef f(x):\n    return s(my.g(x)) + math.pi\n")
    my.keep(cell.f)
    my.keep(written(tmp_path, "def g(x):\n    return 0 * x\n").g)
    assert my.f(3.0) == 0.5 + np.pi


def test_what_cannot_be_kept_changes_nothing(tmp_path):
    path = tmp_path / "my_model.py"
    my = my_model(path)
    my.keep(doubled)
    before = path.read_bytes()
    within = [doubled]
    with pytest.raises(DataError, match="uses TABLE, a ndarray"):
        my.keep(uses_table)
    for function in (lambda x: x, np.sum, lambda x: within[0](x)):
        with pytest.raises(DataError, match="written with def"):
            my.keep(function)
    exec("def typed(x):\n    return x\n", names := {})
    with pytest.raises(DataError, match="source of typed"):
        my.keep(names["typed"])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [("def f(:\n    pass\n", "line 1.*not Python"), ("x = 1\ny = z\n", "line 2.*NameError")],
)
def test_a_file_that_does_not_run_is_told_with_its_line(tmp_path, text, words):
    path = tmp_path / "my_model.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        my_model(path, or_answers=True).propagate  # noqa: B018
    assert path.read_text(encoding="utf-8") == text


def test_answers_stand_in_only_if_asked_for_and_are_told_once(tmp_path, capsys):
    name = "soft_threshold_backward"
    with pytest.raises(AttributeError, match=f"has no {name} yet.*or_answers=True"):
        getattr(my_model(tmp_path / "my_model.py"), name)
    my = my_model(tmp_path / "my_model.py", or_answers=True)
    assert getattr(my, name) is getattr(my, name) is answers()[name]
    assert capsys.readouterr().out.count("the course's answer") == 1
    with pytest.raises(AttributeError, match="has no nonsense yet"):
        my.nonsense  # noqa: B018


def test_only_a_right_answer_is_kept(tmp_path, capsys):
    task, path = exercise("soft_threshold_backward"), tmp_path / "my_model.py"
    task.mark(doubled).keep(path)
    assert not path.exists()
    right = getattr(written(tmp_path, f"import numpy as np\n\n{task.answer()}"), task.name)
    task.mark(right).keep(path)
    assert f"Kept in {path}." in capsys.readouterr().out
    my = my_model(path)
    assert task.mark(getattr(my, task.name))
    task.mark(lambda *given: right(*given)).keep(path)
    assert "Not kept: " in capsys.readouterr().out
