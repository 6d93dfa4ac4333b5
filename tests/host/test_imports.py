"""Who may import whom in lib/covey, read from the source. A new file is entered here first.

A file imports from the groups that its own may name, and from earlier lines of its own group.
"""

import ast
import re
from pathlib import Path

import pytest

from test_port import NAMES as CONTRACT

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "lib" / "covey"
HOST = ROOT / "host" / "covey_host"

# group: (its files in order, the groups it may import from, modules from outside covey)
GROUPS = {
    "errors": (["dropnames", "sentences", "wrongfields", "drops"], [], []),
    "port": (
        [
            "port.chance",
            "port.mpy_tables",
            "port.mpy_crypt",
            "port.mpy_ghash",
            "port.mpy_ghash_small",
            "port.mpy_ghash_ct",
            "port.mpy_path",
            "port.mpy_gcm",
            "port.mpy_rare",
            "port.mpy_cmac",
            "port.mpy_later",
            "port.mpy_address",
            "port.mpy_whynot",
            "port.mpy_desktop",
            "port.mpy_socket",
            "port.mpy_esp",
            "port.mpy",
            "port.cpy_gcm",
            "port.cpy_cmac",
            "port.cpy_later",
            "port.cpy_path",
            "port.cpy",
            "port",
        ],
        ["errors"],
        None,
    ),
    "bytes": (["octets", "job"], ["errors", "port"], []),
    "cryptography": (
        [
            "gcm",
            "cmac",
            "prf",
            "keywrap",
            "modinv",
            "x25519",
            "p256_base",
            "p256",
            "p256_sign",
            "merkle",
            "der",
        ],
        ["errors", "port", "bytes"],
        ["struct"],
    ),
    "state": (
        ["deadline", "path", "replay", "sa", "keystore", "waiting"],
        ["errors", "port", "bytes", "cryptography"],
        ["struct"],
    ),
    "formats": (
        [
            "iana",
            "ipv4",
            "esp",
            "ikesa",
            "errornames",
            "ikebody",
            "ike",
            "ikefrag",
            "x509",
            "kd",
            "gsa",
            "sources",
            "timing",
            "signers",
            "report",
            "redirect",
            "cip",
        ],
        ["errors", "port", "bytes", "cryptography"],
        ["struct"],
    ),
    "protocol": (
        [
            "offer",
            "nat",
            "exchange",
            "ppk",
            "handshake",
            "digital",
            "certs",
            "rawkeys",
            "ikerekey",
            "requests",
            "answering",
            "renewal",
            "unicast",
            "registration",
            "portions",
            "keypath",
            "mac",
            "proofs",
            "clock",
            "chainhash",
            "chains",
            "pebbles",
            "ownchain",
            "timekeeper",
            "tesla",
            "timed",
            "verifying",
            "signatures",
            "vouched",
            "proving",
            "assignment",
            "rekey",
            "group",
            "candidates",
            "keywork",
            "refresh",
            "silence",
            "reporter",
            "servers",
            "hopping",
            "several",
        ],
        ["errors", "port", "bytes", "cryptography", "state", "formats"],
        ["struct"],
    ),
    "top": (
        [
            "keyfiles",
            "certfiles",
            "otherkeys",
            "fields",
            "config",
            "member",
            "membership",
            "resume",
            "ipcarrier",
            "carrier",
            "home",
            "relay",
            "loop",
            "signing",
            "unproven",
            "aio",
            "",
        ],
        ["errors", "port", "bytes", "cryptography", "state", "formats", "protocol"],
        ["struct"],
    ),
}
# What single files may import besides: the only doors to the outside.
DOORS = {
    "port": ["sys"],
    "port.chance": ["hashlib", "os"],
    "port.cpy": ["cryptography", "errno", "hashlib", "os", "socket", "sys", "time"],
    "port.mpy": ["cryptolib", "esp32", "gc", "hashlib", "micropython", "sys", "time"],
    "port.mpy_gcm": ["cryptolib", "micropython", "struct", "sys"],
    "port.mpy_rare": ["micropython"],
    "port.mpy_cmac": ["cryptolib", "micropython"],
    "port.mpy_later": ["micropython"],
    "port.mpy_tables": ["micropython"],
    "port.mpy_crypt": ["micropython"],
    "port.mpy_ghash": ["micropython"],
    "port.mpy_ghash_small": ["micropython"],
    "port.mpy_ghash_ct": ["micropython"],
    "port.mpy_path": ["array", "micropython", "struct"],
    "port.cpy_gcm": ["cryptography"],
    "port.cpy_cmac": ["cryptography", "hmac"],
    "port.cpy_path": ["struct"],
    "port.mpy_address": ["micropython", "network", "socket"],
    "port.mpy_desktop": ["micropython", "socket", "sys", "time"],
    "port.mpy_esp": ["errno", "micropython", "socket", "sys"],
    "port.mpy_socket": ["errno", "micropython", "os", "select", "socket", "sys"],
    "keyfiles": ["binascii"],
    "fields": ["binascii", "json"],
    "aio": ["asyncio"],
    "loop": ["asyncio"],
    "signing": ["asyncio"],
}
PLACES = {name: (group, at) for group in GROUPS for at, name in enumerate(GROUPS[group][0])}


def name_of(path):
    """lib/covey/port/mpy.py → port.mpy; port/__init__.py → port; covey's own → the empty name."""
    parts = path.relative_to(LIB).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {name_of(path): path for path in sorted(LIB.rglob("*.py"))}


def imports_of(path):
    """(line, module) of every import, wherever it stands: `from covey import esp` is covey.esp."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # by dots: never in lib/, and in host/ never covey
                yield node.lineno, "." * node.level
                continue
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                known = inner.partition(".")[2] in PLACES and inner.startswith("covey.")
                yield node.lineno, inner if known else node.module


def test_every_file_has_a_place():
    assert set(FILES) - set(PLACES) == set(), "enter these above"
    assert set(PLACES) - set(FILES) == set(), "these are entered above, but gone"


@pytest.mark.parametrize("name", sorted(set(FILES) & set(PLACES)))
def test_imports_point_upwards(name):
    group, at = PLACES[name]
    _, groups, outside = GROUPS[group]
    allowed = (outside or []) + DOORS.get(name, [])
    for line, module in imports_of(FILES[name]):
        where = f"covey/{FILES[name].relative_to(LIB)}:{line}: import of {module}"
        package, _, rest = module.partition(".")
        if package != "covey":
            assert package in allowed, f"{where}: {name or 'covey'} may import {allowed}"
            continue
        assert rest in PLACES, f"{where}: no such file is entered here"
        other, other_at = PLACES[rest]
        assert other in groups or other == group and other_at < at, (
            f"{where}: {group} may import {groups} and earlier files of its own group"
        )


MOST_DEEP = 6  # each takes 4 KB of the 40 that a 32-bit MicroPython on a desktop lets be taken


def loaded_first(name):
    """What a file imports as it is loaded, in order; of the ports MicroPython's."""
    if name == "port":
        return ["port.mpy"]
    body = ast.parse(FILES[name].read_text()).body
    modules = [
        f"{node.module}.{alias.name}"
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    found = []
    for module in modules:
        _, _, rest = module.partition(".")
        rest = rest if rest in PLACES else rest.rpartition(".")[0]
        if module.startswith("covey.") and rest:
            found.append(rest)
    return found


def test_no_import_lies_too_deep():
    """In others that are not done yet, where main.py names covey.aio first."""
    loaded = set()

    def load(name, above):
        if name in loaded:
            return
        loaded.add(name)
        above = [*above, name]
        assert len(above) <= MOST_DEEP, " > ".join(above)
        for other in loaded_first(name):
            load(other, above)

    load("aio", [])
    assert {"prf", "home", "port.mpy_path", "p256", "registration"} < loaded


@pytest.mark.parametrize("name", FILES)
def test_viper_is_only_in_the_port(name):
    if name.startswith("port.mpy"):
        return
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("viper", "asm_thumb", "asm_xtensa"):
            pytest.fail(f"{FILES[name].name}:{node.lineno}: {node.attr} outside the port")


# Both ports define the same names


def bound(path):
    """Names that a module binds at its top level, imports included; conditions are looked into."""
    names = set()
    todo = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.If | ast.Try):
            todo += [*node.body, *node.orelse, *getattr(node, "finalbody", [])]
            for handler in getattr(node, "handlers", []):
                todo += handler.body
    return names


def defined(path):
    """Public names that a module itself makes."""
    made = bound(path) - {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return {name for name in made if not name.startswith("_")}


@pytest.mark.parametrize("port", ["port.cpy", "port.mpy"])
def test_both_ports_define_exactly_the_contract(port):
    contract = set(CONTRACT)
    assert len(contract) > 10
    assert contract - bound(FILES[port]) == set(), "missing"
    assert defined(FILES[port]) - contract == set(), "not in the contract"


def test_the_contract_is_described():
    text = ast.get_docstring(ast.parse(FILES["port"].read_text()))
    assert [name for name in CONTRACT if not re.search(rf"\b{name}\b", text)] == []


# What boards run beside lib/, and the desktop that they run on

# Modules of MicroPython's ESP32 and RP2 ports, of those that firmware/ may name.
STOCK = {"asyncio", "gc", "hashlib", "json", "machine", "network", "neopixel", "os", "struct"}
STOCK |= {"sys", "time"}
FIRMWARE = ROOT / "firmware"
SHIM = ROOT / "host" / "shim"
# Each may name those before it.
ONBOARD = [
    "board",
    "wifi",
    "seed",
    "asleep",
    "install",
    "together",
    "lag",
    "cyclic",
    "instant",
    "",
]


def test_main_names_only_what_a_board_has():
    seen = set()
    for path in sorted(FIRMWARE.rglob("*.py")):
        if path.name.startswith("manifest"):
            continue  # MicroPython's build runs these, on a desktop
        for line, module in imports_of(path):
            where = f"{path.relative_to(ROOT)}:{line}: import of {module}"
            package, _, rest = module.partition(".")
            seen.add(package)
            if package == "covey":
                assert rest in PLACES and not rest.startswith("port."), where
            elif package == "onboard":
                assert rest == "" or rest in ONBOARD, where
            else:
                assert module in STOCK, where
    assert seen >= {"covey", "onboard", "machine", "network"}


def test_onboard_imports_point_upwards():
    for path in sorted((FIRMWARE / "onboard").glob("*.py")):
        at = ONBOARD.index("" if path.stem == "__init__" else path.stem)
        for line, module in imports_of(path):
            package, _, rest = module.partition(".")
            assert package != "onboard" or rest in ONBOARD[:at], f"{path.name}:{line}: {module}"


def test_the_library_knows_nothing_of_boards():
    for name, path in FILES.items():
        for line, module in imports_of(path):
            assert module.partition(".")[0] not in ("onboard", "machine"), f"{name}:{line}"


def test_the_shim_is_plain_enough_for_both_interpreters():
    both = {"io", "json", "select", "socket", "struct", "sys", "time", "vfs", "ffi"}
    for path in sorted(SHIM.glob("*.py")):
        for line, module in imports_of(path):
            where = f"{path.name}:{line}: import of {module}"
            assert module in both | {"desk", "link", "os", "signal"}, where


# The host


def host_imports():
    for path in sorted(HOST.rglob("*.py")):
        for line, module in imports_of(path):
            if module.partition(".")[0] == "covey":
                yield path, line, module.partition(".")[2]


def test_the_host_names_only_what_exists():
    for path, line, name in host_imports():
        assert name in PLACES, f"{path.name}:{line}: there is no covey.{name}"
        assert not name.startswith("port."), f"{path.name}:{line}: a port's inside"


def test_the_key_server_is_not_made_of_the_members_protocol():
    """It shares formats and cryptography, so that each wire format has one definition. The two
    ends of the protocol are written apart; long arithmetic is `cryptography`'s there. What it
    relays is judged by a member's own data path, where no line of protocol is."""
    shared = {"errors", "port", "bytes", "cryptography", "formats"}
    for path, line, name in host_imports():
        if "gcks" in path.parts:
            where = f"gcks/{path.name}:{line}: import of covey.{name}"
            is_path = path.name == "relay.py" and name in ("member", "sa")
            assert is_path or PLACES[name][0] in shared, where
            assert name not in ("x25519", "p256"), where
