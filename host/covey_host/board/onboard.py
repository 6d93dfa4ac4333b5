"""What `covey install` runs at the prompt of a board: MicroPython in strings, and what it prints.

The first of them starts the board's watchdog, since that can't be left alone by a program that was
stopped, and since a board whose cable was pulled is to go back to its member by itself. Each step
feeds it.
"""

import base64
import json
from collections.abc import Callable, Iterable

from .fit import Running
from .line import BoardError, Line

PART = "/covey.part"  # as firmware/onboard/install.py has them
NEXT = "/covey.next"
CHUNK = 768  # octets of a file in one line of code: 1024 characters
_AT_ONCE = 16  # files asked for in one step

_BEGIN = """
import hashlib, json, os, sys
from binascii import a2b_base64, hexlify
try:
 import machine
 try:
  feed = machine.WDT(timeout=60000).feed
 except ValueError:
  feed = machine.WDT(timeout=8000).feed
except ImportError:
 feed = lambda: None
buf = bytearray(512)
def digest(path):
 feed()
 h = hashlib.sha256()
 try:
  with open(path, "rb") as f:
   while True:
    n = f.readinto(buf)
    if not n:
     break
    h.update(memoryview(buf)[:n])
 except OSError:
  return None
 return hexlify(h.digest()).decode()
def tree(folder):
 try:
  found = list(os.ilistdir(folder))
 except OSError:
  return
 for each in found:
  path = folder + "/" + each[0]
  if each[1] & 0x4000:
   tree(path)
  else:
   print(json.dumps(path))
def clear(folder):
 try:
  for name in os.listdir(folder):
   os.remove(folder + "/" + name)
  os.rmdir(folder)
 except OSError:
  pass
def make_folder(path):
 try:
  os.mkdir(path)
 except OSError as e:
  if e.errno != 17:
   raise
def text(path):
 try:
  with open(path) as f:
   return f.read(16384)
 except OSError:
  return None
"""
_FACTS = """
i = sys.implementation
v = os.statvfs("/")
print(json.dumps([i.name, list(i.version[:3]), getattr(i, "_mpy", 0), getattr(i, "_machine", ""),
 getattr(i, "_build", ""), v[1], v[4]]))
"""


class Remote:
    """The board at the end of a line. Raises what Line.run does."""

    def __init__(self, line: Line):
        self._line = line
        line.run(_BEGIN)
        said = json.loads(line.run(_FACTS))
        name, version, mpy, machine, build, self.block, self.free_blocks = said
        self.is_micropython = name == "micropython"
        self.running = Running(tuple(version), mpy, machine, build)

    def digests(self, paths: Iterable[str]) -> dict[str, str | None]:
        """SHA-256 in hexadecimal of each file; None where there is none."""
        paths = list(paths)
        found = {}
        for at in range(0, len(paths), _AT_ONCE):
            some = paths[at : at + _AT_ONCE]
            said = self._line.run(f"print(json.dumps([digest(p) for p in {some!r}]))")
            found.update(zip(some, json.loads(said), strict=True))
        return found

    def tree(self, folder: str) -> list[str]:
        """The files in a folder and below."""
        return [json.loads(line) for line in self._line.run(f"tree({folder!r})").splitlines()]

    def text(self, path: str) -> str | None:
        """What is no secret: the first 16 KiB. None where there is no such file."""
        return json.loads(self._line.run(f"print(json.dumps(text({path!r})))"))

    def exists(self, path: str) -> bool:
        return bool(
            json.loads(
                self._line.run(
                    f"feed()\ntry:\n os.stat({path!r})\n print(1)\nexcept OSError:\n print(0)"
                )
            )
        )

    def settle(self) -> None:
        """What boot.py would do."""
        self._line.run("feed()\nfrom onboard import install\ninstall.settle()")

    def clear(self) -> None:
        """The same, or where the board has no code for that: what was begun is removed."""
        try:
            self.settle()
        except BoardError as error:
            if error.name not in ("ImportError", "ValueError", "AttributeError"):
                raise
            self._line.run(f"clear({PART!r})")

    def open_part(self) -> None:
        self._line.run(f"clear({PART!r})\nos.mkdir({PART!r})")

    def write(self, name: str, data: bytes, advance: Callable[[int], None]) -> None:
        """A file of PART, closed when this returns."""
        self._line.run(f"f = open({PART + '/' + name!r}, 'wb')")
        for at in range(0, len(data), CHUNK):
            chunk = data[at : at + CHUNK]
            self._line.run(f"feed()\nn = f.write(a2b_base64({base64.b64encode(chunk)!r}))")
            advance(len(chunk))
        self._line.run("f.close()")

    def put(self, name: str, path: str) -> None:
        """One file of PART to its place, at once."""
        folders = path.split("/")[1:-1]
        for i in range(len(folders)):
            folder = "/" + "/".join(folders[: i + 1])
            self._line.run(f"make_folder({folder!r})")
        self._line.run(f"os.rename({PART + '/' + name!r}, {path!r})")

    def commit(self) -> None:
        """From here on the new member is the one that boots."""
        self._line.run(f"os.rename({PART!r}, {NEXT!r})")
