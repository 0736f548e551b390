"""Reading a page's HTML back."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "input", "img"}


class Page(HTMLParser):
    """Tags, attributes, text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts = 0
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text += data


def attributes(page: Page, name: str) -> list[str]:
    return [attrs[name] for _, attrs in page.tags if name in attrs]


def cells(page: str, label: str) -> list[list[str]]:
    """The texts of the body of the table whose caption begins with a label, row by row."""
    body = page[page.index(f"<caption>{label}") :]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    return [[Page(cell).text for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in body.split("</tr>")[:-1]]
