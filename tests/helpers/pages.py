"""A page, parsed: what tests look for in it."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Elements by name, all text, that within elements of each name, and whether every element is closed."""

    VOID = frozenset({"meta", "img", "rect"})

    def __init__(self, path: Path):
        super().__init__()
        self.elements: dict[str, list[dict[str, str]]] = {}
        self.text, self.open = "", []
        self.within: dict[str, list[str]] = {}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.setdefault(tag, []).append(dict(attrs))
        self.within.setdefault(tag, []).append("")
        if tag not in self.VOID:
            self.open.append((tag, len(self.within[tag]) - 1))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.text += data
        for tag, number in self.open:
            self.within[tag][number] += data

    @property
    def words(self) -> str:
        """All text of the body, with single spaces."""
        return " ".join(" ".join(self.within["main"]).split())

    def of_class(self, tag: str, name: str) -> list[str]:
        """The text of these elements of this class."""
        pairs = zip(self.elements.get(tag, []), self.within.get(tag, []), strict=True)
        return [" ".join(text.split()) for attributes, text in pairs if name in attributes.get("class", "").split()]
