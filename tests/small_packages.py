"""Small packages covey, rewritten as a board gets them: what they say must stay the same."""

import ast
import subprocess
import sys

from covey_host.board import code, program, shrink


def rewritten(folder, main, texts, in_one=True):
    """A package covey of these files by name (port__x: port/x.py), as a board with this main.py
    gets it. in_one: see shrink().
    """
    kept = {}
    for name, text in {"__init__": "", **texts}.items():
        file = f"covey/{name.replace('__', '/', 1) if name[0] != '_' else name}.py"
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        kept[file] = path
    return shrink.shrink(kept, (main,), folder, in_one)


def says_the_same(folder, main, made):
    """What main.py prints with the source, which lies in the folder, and with what was made."""
    there = folder / "there"
    for file, text in made.texts.items():
        (there / file).parent.mkdir(parents=True, exist_ok=True)
        (there / file).write_text(text)
    said = []
    for home in (folder, there):
        command = [sys.executable, "-c", main]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1] and said[0]


def parts(arch):
    """The files of lib/covey that are one on a board of this architecture."""
    found = code.select(["import covey.aio"], arch, ("udp",), ())
    trees = {file: ast.parse(code._text(path, code.SOURCE)) for file, path in found.kept.items()}
    return program.Program(trees, "covey/aio.py").parts
