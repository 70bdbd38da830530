"""docs/formats.md and `job.core.records` say the same."""

import re

import pytest

from tools.formats import DOCUMENT, classes, drawn, fields

TEXT = DOCUMENT.read_text(encoding="utf-8")
SHOWN = re.findall(r"<!-- fields of (\w+) -->", TEXT)


def test_the_tables_are_those_of_the_types():
    assert drawn(TEXT) == TEXT, "run `python -m tools.formats`"


def test_every_type_is_in_the_document():
    """As a table, or as part of one; readers get an AttemptRow, which is not stored."""
    known, parts = classes(), set()

    def add(name):
        parts.add(name)
        for base in known[name].bases:
            if base.id in known:
                add(base.id)

    for name in SHOWN:
        add(name)
    assert {*known} - parts == {"AttemptRow"}


@pytest.mark.parametrize("name", classes())
def test_every_field_says_what_it_is(name):
    assert [field.name for field in fields(name, classes()) if not field.about] == []


def test_every_link_leads_to_a_heading():
    headings = {heading.lower() for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    assert {*re.findall(r"\]\(#(\w+)\)", TEXT)} <= headings
