"""What the documents say in sentences and examples: paths, links, commands, the README's code."""

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys

import pytest
import typer.main

from covey import aio
from covey_host import cli
from markdown import CLI, DOCS, README, ROOT, TEXTS, blocks, codes, prose, section, table
from processes import ENVIRONMENT, wait_until
from site_bench import Bench
from test_micropython import interpreter, without

HOST = ROOT / "host" / "covey_host"
NOT_YET = set()  # targets of make that the README announces


# Paths, links, targets


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(path):
    for span in re.findall(r"`([^`\n]+)`", prose(TEXTS[path])):
        if re.fullmatch(r"(lib|host|tests|tools|docs)/[\w./-]*", span):
            found = list(ROOT.glob(span.replace("NAME", "*")))
            assert found and (found[0].is_dir() or not span.endswith("/")), span
        elif re.fullmatch(r"\w+\.py", span):
            homes = (ROOT / "lib", HOST, ROOT / "firmware")
            assert any(list(home.rglob(span)) for home in homes), span


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(TEXTS[path])):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_document_is_linked_from_the_readme():
    for path in DOCS:
        if path.parent.name == "docs":
            assert f"](docs/{path.name})" in README, path.name


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_make_targets_exist(path):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    spans = re.findall(r"`(make [^`]+)`", TEXTS[path])
    lines = [line for block in blocks(TEXTS[path], "sh") for line in block.splitlines()]
    for words in [text.split() for text in spans + lines]:
        assert words[:1] != ["make"] or words[1] in targets | NOT_YET, words
    assert not targets & NOT_YET, "it is there: say so in the README"


# Commands


def commands():
    """ "group add" → click's command, of all that do something."""
    found = {}

    def walk(name, command):
        inner = getattr(command, "commands", None)
        if inner is None:
            found[name] = command
        for word in inner or ():
            walk(f"{name} {word}".strip(), inner[word])

    walk("", typer.main.get_command(cli.app))
    return found


COMMANDS = commands()


def split_command(words):
    """("group add", the rest), of the words behind `covey`."""
    for n in (2, 1):
        if " ".join(words[:n]) in COMMANDS:
            return " ".join(words[:n]), words[n:]
    return None, words


def options_of(command):
    return {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_in_blocks_can_be_typed(path):
    for block in blocks(TEXTS[path], "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["covey"]:
                name, rest = split_command(words[1:])
                assert name, line
                COMMANDS[name].make_context(name, rest)  # raises where it would be misuse


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_in_sentences_exist(path):
    for span in re.findall(r"`covey ([^`]+)`", prose(TEXTS[path])):
        words = span.split()
        if words[0].isupper():  # `covey COMMAND --help`
            continue
        name, rest = split_command(words)
        assert name, span
        for word in rest:
            if word.startswith("--"):
                assert word in options_of(COMMANDS[name]), span


def test_cli_has_every_command_with_its_options():
    headings = re.findall(r"^### covey (.+)$", CLI, re.M)
    assert sorted(headings) == sorted(COMMANDS)
    for name in headings:
        shown = codes(table(CLI, f"covey {name}"))
        assert shown == options_of(COMMANDS[name]), name


def test_the_site_in_the_readme_is_ten_lines():
    block = blocks(section(README, "A site by hand"), "sh")[0]
    typed = [line for line in block.splitlines() if line.startswith("covey")]
    assert len(typed) <= 10
    assert [split_command(line.split()[1:])[0] for line in typed] == [
        "init",
        "group add",
        "member add",
        "member add",
        "serve",
        "join",
        "join",
        "rekey",
        "member remove",
    ]


# The example


EXAMPLE = blocks(README, "python")[0]


def test_the_example_is_fifteen_lines_and_names_what_exists():
    assert len(EXAMPLE.splitlines()) <= 15
    tree = ast.parse(EXAMPLE)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    for name in imported:
        importlib.import_module(name)
    packet = aio.Packet(b"", None, False)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = {"m": aio.Joined, "p": packet}.get(node.value.id)
            assert owner is None or hasattr(owner, node.attr), node.attr


def test_the_board_s_example_is_what_boards_run():
    assert blocks(README, "python")[1].strip() in (ROOT / "firmware" / "main.py").read_text()


@pytest.mark.parametrize("name", ["cpython", "x86", "x64"])
def test_the_example_runs(name, tmp_path):
    """As it stands, in the directory that `covey member add` wrote."""
    command, paths = [sys.executable], {}
    if name != "cpython":
        wrapper, reason = interpreter(name)
        if wrapper is None:
            without(name, reason)
        command, paths = [wrapper], {"MICROPYPATH": f"{ROOT / 'lib'}:.frozen"}
    example = tmp_path / "example.py"
    example.write_text(EXAMPLE)
    bench = Bench(tmp_path / "site")
    player = None
    try:
        bench.member("press-7", "--sender")
        bench.member("valve-3")
        bench.serve()
        listener = bench.launch("join", "valve-3", "--json", "--count", "1")
        wait_until(lambda: "registered" in listener.stdout.readline())
        with open(tmp_path / "said", "w") as said:
            player = subprocess.Popen(
                [*command, example],
                cwd=bench.root / "members" / "press-7",
                env=ENVIRONMENT | paths,
                stdout=said,
                stderr=said,
            )
        line = wait_until(lambda: received(listener, player, tmp_path / "said"))
        assert line["text"] == "speed=1500"
        assert set(line) == codes(table(CLI, "packet"))
    finally:
        if player:
            player.kill()
            player.wait()
        bench.close()


def received(listener, player, said):
    """The next line of the listener if it is a packet."""
    assert player.poll() is None, said.read_text()
    line = json.loads(listener.stdout.readline())
    return line if line["event"] == "packet" else None
