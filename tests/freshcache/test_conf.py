"""FRESHCACHE: the defaults, what is said of mistakes, and the table of them."""

import re
from dataclasses import fields

import pytest
from django.core.exceptions import ImproperlyConfigured

from freshcache import conf
from tests.preloaded import ROOT


def test_without_settings_there_are_defaults(settings):
    del settings.FRESHCACHE
    assert conf.current() == conf.Configuration()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WAIT_SECOND": 1}, "no setting 'WAIT_SECOND'. Did you mean 'WAIT_SECONDS'?"),
        ({"wait_seconds": 1}, "Did you mean 'WAIT_SECONDS'?"),
        ({"WAIT_SECONDS": "2"}, r"\['WAIT_SECONDS'\] has to be a number of at least 0, not '2'"),
        ({"WAIT_SECONDS": -1}, "at least 0, not -1"),
        ({"WAIT_SECONDS": True}, "has to be a number"),
        ({"MAX_VARIANTS": 1.5}, "has to be a whole number"),
        ({"MAX_VARIANTS": 9}, "at least 10"),
        ({"LOCAL_CACHE": 1}, "has to be True or False"),
        ({"NAME": None}, "has to be a text"),
        ({"READ_SECONDS": 0}, "at least 0.001"),
        (["NAME"], "has to be a dict"),
    ],
)
def test_a_mistake_is_named(settings, given, said):
    settings.FRESHCACHE = given
    with pytest.raises(ImproperlyConfigured, match=said):
        conf.current()


def test_the_readme_has_every_setting_with_its_default():
    text = (ROOT / "freshcache/README.md").read_text()
    found = dict(re.findall(r"^\| `([A-Z_]+)` \| `(.+?)` \|", text, re.MULTILINE))
    expected = {field.name.upper(): repr(field.default) for field in fields(conf.Configuration)}
    assert {name: value.replace('"', "'") for name, value in found.items()} == expected
