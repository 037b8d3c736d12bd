"""Code in README and docs: Python is run, commands are parsed and checked, links lead somewhere."""

import functools
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from har_cache_cli import options
from typer.testing import CliRunner

from har_cache.data.lists.rows import read_rows

from .helpers.caches import random_embeddings, write_cache

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]
OWN_TESTS = {"own-head.md", "python.md"}  # their Python runs in the tests of the API
# Options of other programs than har-cache that the pages name.
OF_OTHERS = {"--long", "--page", "--random-order", "--extra-index-url", "--no-deps", "--torch-backend"}
named = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def _commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every har-cache command in the page's blocks."""
    for block in _blocks(page, "", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r";|&&|\|\|", line.partition(" #")[0]):
                words = shlex.split(command.strip().removeprefix("$ "))
                if words[:1] == ["har-cache"]:
                    yield words[1:]


@pytest.fixture(scope="module")
def check() -> Callable[[list[str]], str | None]:
    """Parses a command line of har-cache, checks its values, and runs nothing; gives what is wrong."""
    add = options.add

    def add_idle(app: Any, name: str, command: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        @functools.wraps(command)
        def idle(*_: Any, **__: Any) -> None: ...

        add(app, name, idle, *args, **kwargs)

    spec = importlib.util.find_spec("har_cache_cli.main")
    assert spec and spec.loader
    main = importlib.util.module_from_spec(spec)
    with patch.object(options, "add", add_idle):
        spec.loader.exec_module(main)

    def parse(words: list[str]) -> str | None:
        result = CliRunner().invoke(main.app, words)
        return None if result.exit_code == 0 else f"{shlex.join(words)}: {result.output} {result.stderr}"

    return parse


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """The options of each command."""
    import typer
    from har_cache_cli.main import app

    group: Any = typer.main.get_command(app)
    return {
        name: {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
        for name, command in group.commands.items()
    }


@pytest.fixture(scope="module")
def everywhere(known: dict[str, set[str]]) -> set[str]:
    """The options of any command, of the program itself, and those of other programs that pages name."""
    import typer
    from har_cache_cli.main import app

    group: Any = typer.main.get_command(app)
    return set().union(*known.values(), OF_OTHERS, *(option.opts for option in group.params))


def test_a_command_that_is_wrong_is_noticed(check: Callable[[list[str]], str | None]) -> None:
    assert check(["extract", "--data", "DIR", "--cache", "CACHE"]) is None
    assert "--no-such" in (check(["extract", "--data", "DIR", "--cache", "CACHE", "--no-such"]) or "")
    assert "--views" in (check(["extract", "--data", "DIR", "--cache", "CACHE", "--views", "side"]) or "")
    assert check(["no-such-command"])


@named
def test_commands_in_blocks_are_such_that_har_cache_takes(
    page: Path, check: Callable[[list[str]], str | None], known: dict[str, set[str]]
) -> None:
    for words in _commands(page):
        if "..." in words:  # a part of a command
            assert {word for word in words if word.startswith("--")} <= known[words[0]], words
        else:
            assert (wrong := check(words)) is None, wrong


@named
def test_commands_and_options_in_the_text_are_there(
    page: Path, known: dict[str, set[str]], everywhere: set[str]
) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`]+)`", text):
        flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code))
        if found := re.match("har-cache ([a-z][a-z-]*)", code):
            name = found[1]
            assert name in known, code
            assert flags <= known[name] | OF_OTHERS, code
        else:
            assert flags <= everywhere, code


@named
def test_targets_of_make_that_are_named_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text("utf-8")
    called = re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert set(called) <= targets
    assert "make demo" in text or page.name != "README.md"


def test_the_walk_is_what_make_demo_runs() -> None:
    from .test_makefile import dry

    walk = [" ".join(words) for words in _commands(ROOT / "docs/index.md")]
    ran = [line.partition("bin/har-cache ")[2] for line in dry("demo") if "bin/har-cache " in line]
    assert walk[:3] == [re.sub(" +", " ", line.replace("--resume ", "")).strip() for line in ran[:3]]
    assert walk[3:5] == ["evaluate data/runs/sample", "report data/runs/sample --data data/sample"]
    assert "evaluate data/runs/sample" in ran[3] and "report data/runs/sample --data data/sample" in ran[3]


@named
def test_links_lead_to_files_and_their_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        generated = page.parent == ROOT / "docs" and name == "commands.md"
        assert generated or path.exists(), target
        if anchor and not generated:
            assert anchor in _anchors(path), target


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as both GitHub and the site make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_readme_can_be_read_in_one_go() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    for picture in re.findall(r"!\[[^]]*\]\((.*?)\)", text):
        assert (ROOT / picture).stat().st_size < 500_000


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OWN_TESTS], ids=lambda page: page.name)
def test_python_in_the_pages_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = _blocks(page, "python")
    if not blocks:
        return
    monkeypatch.chdir(tmp_path)
    write_cache(Path("data/caches/sample"), random_embeddings({"a/1.avi": 3, "b/2.avi": 1}))
    if page.name == "encoders.md":
        _write_encoders()
    for code in blocks:
        exec(compile(code, page.name, "exec"), {})


def _write_encoders() -> None:
    """The files of encoders that the page loads: of torchvision's models, as extraction writes them."""
    import torch
    import torchvision
    from safetensors.torch import save_file

    default = torchvision.models.mnasnet0_5()
    default.classifier = torch.nn.Linear(1280, 256)
    save_file(default.state_dict(), "data/caches/sample/encoder.safetensors")
    Path("data/caches/mobilenet").mkdir()
    small = torchvision.models.mobilenet_v3_small(num_classes=256)
    save_file(small.state_dict(), "data/caches/mobilenet/encoder.safetensors")


def test_a_shard_is_read_with_h5py_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = Path("data/caches/sample")
    write_cache(cache, random_embeddings({"a/1.avi": 3, "a/2.avi": 1}), subsets={"a/1.avi": (1, 2)})
    [code] = _blocks(ROOT / "docs/formats.md", "python")
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a/1.avi a [1, 2] (1, 3, 256) [0.         0.03333333 0.06666667]"
    assert second == "a/2.avi a None (1, 1, 256) [0.]"


def test_the_floors_of_the_architecture_are_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    [block] = [block for block in _blocks(ROOT / "docs/architecture.md", "text") if block.startswith("cli ")]
    floors: list[str] = []
    for line in block.splitlines()[1:]:
        beside, name = re.match(r"(\| )?(\w+)", line).groups()  # type: ignore[union-attr]
        if beside:
            floors[-1] += f" | {name}"
        else:
            floors.append(name)
    assert floors == layers


def test_the_site_shows_every_page_and_every_command(known: dict[str, set[str]]) -> None:
    nav = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    generated = {"commands.md", "changelog.md", "contributing.md", "security.md"}
    assert nav == {page.name for page in ROOT.glob("docs/*.md")} | generated
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/hooks/pages.py")
    assert spec and spec.loader
    spec.loader.exec_module(pages := importlib.util.module_from_spec(spec))
    text = pages.commands()
    assert re.findall(r"^## har-cache ([\w-]+)$", text, re.MULTILINE) == list(known)
    assert "| `--source-pattern REGEX` | Regular expression" in text and "\\|" in text
    assert pages.on_page_markdown("[a](../SECURITY.md#x) [b](own-data.md)") == "[a](security.md#x) [b](own-data.md)"


def test_lists_that_are_shown_are_read(tmp_path: Path) -> None:
    [table] = _blocks(ROOT / "docs/own-data.md", "csv")
    (tmp_path / "clips.csv").write_text(table)
    rows = read_rows([str(tmp_path / "clips.csv")])
    assert [(row.path, row.label, row.source) for row in rows] == [
        ("2024/anna.mp4", "jump", "anna"),
        ("2024/bob, 2.mp4", "jump", "bob"),
        ("2025/eve.mp4", "sit", "eve"),
    ]
    [lines] = [block for block in _blocks(ROOT / "docs/own-data.md", "text") if block.endswith(" 0\n")]
    (tmp_path / "train.txt").write_text(lines)
    rows = read_rows([f"train={tmp_path / 'train.txt'}"])
    assert [(row.path, row.label) for row in rows] == [("videos/jump/anna-1.mp4", "0"), ("videos/jump/bob-1.mp4", "0")]
