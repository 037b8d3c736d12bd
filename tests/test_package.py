import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_installed():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    folders = {".".join(file.parent.relative_to(ROOT).parts) for file in ROOT.glob("har_cache/**/__init__.py")}
    assert [*sorted(folders), "har_cache_cli"] == listed


def test_a_folder_holds_no_more_than_a_reader_can_survey():
    for folder in {file.parent for file in ROOT.glob("har_cache/**/*.py")}:
        assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= 9, folder


def test_inits_are_empty_since_worker_processes_import_no_more_than_they_need():
    assert not [file for file in ROOT.glob("har_cache/*/**/__init__.py") if file.read_text()]


def test_every_file_that_is_no_module_is_installed():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["har_cache"]
    installed = {file for pattern in patterns for file in ROOT.glob(f"har_cache/{pattern}")}
    others = {file for file in ROOT.glob("har_cache/**/*.*") if file.suffix not in {".py", ".pyc"}}
    assert others == installed


def test_extras_that_pages_name_are_there():
    pages = [ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("docs/*.md")]
    named = {extra for page in pages for extra in re.findall(r"'\.\[([\w,]+)\]'", page.read_text())}
    assert "ray" in named
    assert named <= set(PROJECT["project"]["optional-dependencies"])
