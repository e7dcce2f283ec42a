"""The lists of breaks fit the code; `make mutate` tries what the tests notice."""

import re

import pytest

from tests import mutations
from tests.mutations import Break

CODE = {"one.py": "a = 1\nb = 1\n", "other.py": "c = 2\n"}


def test_each_break_fits_exactly_one_place_and_names_tests_that_exist():
    assert list(mutations.faults(mutations.load())) == []


def test_a_break_changes_what_it_matches():
    plain = Break("plain", "", "c = 2", "c = 3", [])
    pattern = Break("pattern", "", re.compile(r"(\w) = 2"), r"\1 = 4", [])
    assert mutations.apply(plain, CODE) == ("other.py", "c = 3\n")
    assert mutations.apply(pattern, CODE) == ("other.py", "c = 4\n")


@pytest.mark.parametrize(("old", "new"), [("= 1", "= 2"), ("d = 1", ""), ("c = 2", "c =")])
def test_a_break_that_fits_two_places_none_or_leaves_no_python_is_wrong(old, new):
    with pytest.raises(mutations.ListIsWrongError, match="a name"):
        mutations.apply(Break("a name", "", old, new, []), CODE)


def test_the_list_is_wrong_if_a_test_is_gone():
    found = list(mutations.faults([Break("a name", "", "no" + "where", "", ["tests/gone.py::x"])]))
    assert found[-1] == "a name: there is no test tests/gone.py::x"
