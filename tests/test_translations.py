"""The pages in Persian: every text is translated, and nobody meets an English sentence."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import closing

import polib
import pytest
from django.utils import translation
from playwright.sync_api import expect

from tests.browser import PAGES, Visit, open_demo
from tests.preloaded import ROOT

FOLDER = "locale/fa/LC_MESSAGES"
DOMAINS = ("django", "djangojs")
# %(name)s, %s and %d, {name}, and tags with what they contain.
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}|</?[a-z][^>]*>")
# Letters of Arabic keyboards, and Latin punctuation and digits behind a Persian letter.
NOT_PERSIAN = re.compile(r"[\u0643\u064a\u0660-\u0669]|[\u0600-\u06ff](?:[?;]|, |[0-9])")
THREE_LATIN_WORDS = re.compile(r"[A-Za-z][\w'\u2019.-]*(?:[\s,]+[A-Za-z][\w'\u2019.-]*){2,}")
# What is said in a language of its own: code, names and texts of products, what lies in Redis.
VISIBLE_TEXTS = """() => {
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    const texts = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const own = "script, code, pre, bdi, [dir=ltr], [dir=auto], [lang=en]";
        const { parentElement } = node;
        if (!parentElement.closest(own) && parentElement.checkVisibility()) texts.push(node.textContent);
    }
    return texts;
}"""


def texts_of(domain, folder=ROOT / "pages"):
    return polib.pofile(folder / FOLDER / f"{domain}.po")


def key(entry):
    return entry.msgctxt, entry.msgid, entry.msgid_plural


def translations_of(entry):
    return list(entry.msgstr_plural.values()) or [entry.msgstr]


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_text_is_translated(domain):
    texts = texts_of(domain)
    assert len(texts) > 50
    assert [entry.msgid for entry in texts.untranslated_entries()] == []
    assert [entry.msgid for entry in texts.fuzzy_entries() + texts.obsolete_entries()] == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_translation_keeps_what_is_put_into_the_text(domain):
    for entry in texts_of(domain):
        wanted = Counter(PLACEHOLDER.findall(entry.msgid_plural or entry.msgid))
        for text in translations_of(entry):
            assert Counter(PLACEHOLDER.findall(text)) == wanted, entry.msgid


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_translation_is_written_in_persian_letters_and_punctuation(domain):
    texts = [text for entry in texts_of(domain) for text in translations_of(entry)]
    assert [text for text in texts if NOT_PERSIAN.search(text)] == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_compiled_translations_are_those_of_the_source(domain):
    compiled = polib.mofile(ROOT / "pages" / FOLDER / f"{domain}.mo")
    source = texts_of(domain)
    assert {key(one): translations_of(one) for one in compiled} == {
        key(one): translations_of(one) for one in source
    }
    assert compiled.metadata["Plural-Forms"] == source.metadata["Plural-Forms"]


def test_no_text_of_a_page_is_taken_for_one_of_another_app():
    with translation.override("fa"):
        for entry in texts_of("django"):
            if entry.msgid_plural:
                continue
            context = entry.msgctxt
            text = entry.msgid
            shown = translation.pgettext(context, text) if context else translation.gettext(text)
            assert shown == entry.msgstr


def test_no_text_has_been_forgotten_to_be_collected(tmp_path):
    if not shutil.which("xgettext") and os.environ.get("CI") != "true":
        pytest.skip("no xgettext on the PATH (Debian: apt-get install gettext)")
    folder = tmp_path / "pages"
    shutil.copytree(ROOT / "pages", folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, ROOT / "bin/messages", folder], check=True)
    for domain in DOMAINS:
        collected = {key(entry) for entry in texts_of(domain, folder)}
        assert collected == {key(entry) for entry in texts_of(domain)}, "run `make messages`"


@pytest.mark.parametrize("path", PAGES)
def test_a_persian_page_has_no_english_sentence(visit, path):
    page = visit(locale="fa-IR").open(path)
    page.wait_for_load_state("load")
    texts = page.evaluate(VISIBLE_TEXTS)
    assert len(texts) > 5
    assert [text for text in texts if THREE_LATIN_WORDS.search(text)] == []


def test_what_the_api_refuses_is_said_in_persian(chromium):
    with (
        closing(open_demo(THROTTLE_WRITES="1/hour")) as store,
        chromium.new_context(locale="fa-IR") as context,
    ):
        page = Visit(context, store).open("/shop/1/")
        page.get_by_role("button", name="افزودن به سبد خرید").click()
        expect(page.get_by_text("در سبد خرید شما")).to_be_visible()
        page.get_by_role("button", name="تغییر تعداد").click()
        expect(page.get_by_text("تغییرها پشت سر هم زیاد بود.")).to_be_visible()


def test_the_digits_of_a_column_stand_below_each_other(visit):
    page = visit(locale="fa-IR").open("/strategies/")
    right_edges = page.evaluate(
        """() => [...document.querySelectorAll(".speed tbody td.number:nth-child(2)")].map((cell) => {
            const text = document.createRange();
            text.selectNodeContents(cell);
            return Math.round(text.getBoundingClientRect().right);
        })"""
    )
    assert len(right_edges) > 5
    assert len(set(right_edges)) == 1
