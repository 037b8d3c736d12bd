"""Pages of the site that are not files of docs/: every command and option, from the code, and files of the root."""

import copy
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_OF_THE_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
# As files on GitHub, pages of docs/ link to the root and files of the root to docs/; in the site all lie side by side.
_TO_ROOT = re.compile(r"\]\(\.\./(\w+\.md)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=commands()))
    for name in _OF_THE_ROOT:
        content = (ROOT / name).read_text("utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Have links to files of the root lead to their pages."""
    return _TO_ROOT.sub(lambda found: f"]({found[1].lower()}", markdown)


def commands() -> str:
    """Markdown of every command and option, as the command line has them."""
    import typer
    from har_cache_cli.main import app

    group: Any = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "From the code, as `har-cache COMMAND --help` has it. Exit codes are in the [questions](questions.md).",
    ]
    for name, command in group.commands.items():
        if not command.hidden:
            lines += _command(name, command)
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> list[str]:
    context = command.context_class(command, info_name=f"har-cache {name}")
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = ["", f"## har-cache {name}", "", _prose(command.help or ""), "", "```text", usage, "```"]
    section: str | None = "none yet"
    for parameter in command.get_params(context):
        record = _record(parameter, context)
        if not record or "--help" in parameter.opts:
            continue
        if section != (section := getattr(parameter, "rich_help_panel", None)):
            lines += ["", f"| {section or 'option'} | |", "|---|---|"]
        option, told = (text.replace("|", "\\|") for text in record)
        lines.append(f"| `{option}` | {_prose(told)} |")
    return lines


def _record(parameter: Any, context: Any) -> tuple[str, str] | None:
    """Name and help; None of what is hidden. Of an option's names the first, and the letter that stands for it."""
    if parameter.param_type_name == "argument":
        return parameter.metavar or parameter.name.upper(), parameter.help or ""
    shown = copy.copy(parameter)
    short = [name for name in parameter.opts if not name.startswith("--")]
    shown.opts = [*short, *[name for name in parameter.opts if name.startswith("--")][:1]]
    return shown.get_help_record(context)


def _prose(text: str) -> str:
    """Text of a help as Markdown: what would be taken for a tag or emphasis is escaped."""
    return re.sub(r"([<>*_])", r"\\\1", text.strip())
