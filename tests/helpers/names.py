"""Names of classes and clips that a file system allows, and that do harm where they are not met."""

HOSTILE = (
    "a\rb",
    "a\nb",
    "t\tt",
    "\x1b[31mred",
    "bell\x07",
    "\x9b2Jclear",
    "\u202edaer",
    "next\u2028line",
    '"quoted"\'',
    "=cmd|calc",
    "@sum",
    "+1+2",
    "-3+4",
    "'=1",
    "a|b\\",
    "$\\formula$",
    "<b>&amp;",
)


def harmful(text: str) -> set[str]:
    """The characters of what was printed that do more to a terminal than to stand there, or to end a line."""
    return {c for c in text if c != "\n" and (not c.isprintable() or "\ud800" <= c <= "\udfff")}
