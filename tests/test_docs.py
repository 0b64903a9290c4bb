"""README and docs: every link leads somewhere, every command, option, target, setting and Python line exists."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from posedistill.__main__ import COMMANDS, build_parser
from posedistill.fingerprint import used_code
from posedistill.params import read_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS = read_settings(ROOT / "params.yaml")
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def command_lines(page: Path) -> list[str]:
    lines = [
        line.split("  #")[0].split(" # ")[0].strip()
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if line]


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in heading_anchors(file), f"{page.name}: {target}"


@pages
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    text = page.read_text(encoding="utf-8")
    named = {
        word
        for line in [*re.findall(r"`make ([^`\n]*)`", text), *re.findall(r"^make (.*)$", text, re.M)]
        for word in line.split("#")[0].split()
        if re.fullmatch(r"[a-z-]+", word)
    }
    assert named <= targets, f"{page.name}: {named - targets}"


@pages
def test_options_of_our_commands_exist(page):
    for line in command_lines(page):
        words = shlex.split(line)
        if "posedistill" not in words or (words[0].startswith("torchrun") and "train" not in words):
            continue
        words = words[words.index("posedistill") + 1 :]
        assert words[0] in COMMANDS, line
        build_parser(words[0]).parse_args(words)  # exits on an option that does not exist


@pages
def test_settings_exist(page):
    """-S section.setting=…, and names of settings in the text."""
    text = page.read_text(encoding="utf-8")
    keys = re.findall(r"-S ([a-z0-9_.]+)=", text)
    keys += [
        key for key in re.findall(r"`([a-z0-9_]+\.[a-z0-9_.]+)(?:: [^`]*)?`", text) if key.split(".")[0] in SETTINGS
    ]
    for key in keys:
        value = SETTINGS
        for part in key.split("."):
            assert isinstance(value, dict) and part in value, f"{page.name}: {key}"
            value = value[part]


@pages
def test_python_examples_use_what_exists(page):
    for block in blocks(page, "python"):
        ast.parse(block)
        assert not any(line.startswith("posedistill") and " " not in line for line in used_code(notebook=block))


@pages
def test_paths_in_the_text_exist(page):
    made = ("models/", "out/", "prepared/", "predictions/", "html/", "code/", "photos/", "weights/", "reports/gpu/")
    for path in re.findall(
        r"`((?:src|tests|docs|assets|recipes|reports|notebooks|benchmarks|examples)/[\w./-]+)`", page.read_text()
    ):
        assert path.startswith(made) or (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
