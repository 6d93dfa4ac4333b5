"""boards/*.toml: each is whole, and as MicroPython has it; a mistake is told with its line."""

import re

import pytest

from covey.config import Config
from covey_host.board import boards, espressif
from covey_host.board.boards import BIN, UF2
from covey_host.errors import MISUSE, Problem
from markdown import ROOT, TEXTS

NAMES = ["esp32", "esp32c3", "esp32c6", "esp32s2", "esp32s3", "rpi_pico_w"]
TEXT = (ROOT / "boards" / "esp32c3.toml").read_text()
PICO = (ROOT / "boards" / "rpi_pico_w.toml").read_text()
FIELDS = {
    "version": 1,
    "group": "line1",
    "idi": "press-7",
    "servers": [["192.0.2.1"]],
    "psk_file": "psk",
}


def test_the_boards_that_covey_brings():
    assert boards.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole(name):
    board = boards.load(name)
    assert board.id == name
    assert board.vfs.end == board.flash_size, "MicroPython takes the flash to its end"
    assert set(board.limits) == {"sas", "senders", "payload"}
    assert "not measured" in board.heap_from
    assert board.read_in[0] == "1.25.0"
    config = Config({**FIELDS, "limits": board.limits}, psk=bytes(32))
    assert config.limit_sas == board.limits["sas"]
    if board.format == BIN:
        assert board.chip in espressif.CHIP_IDS.values()
        is_xtensa = board.chip in ("esp32", "esp32s2", "esp32s3")
        assert board.arch == ("xtensawin" if is_xtensa else "rv32imc")
        assert board.offset == (0x1000 if board.chip in ("esp32", "esp32s2") else 0)
        assert board.table == 0x8000


def test_a_board_of_one_s_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace("led = 8", 'led = "D13"'))
    board = boards.load(str(path))
    assert board.id == "mine" and board.chip == "esp32c3" and board.pins["led"] == "D13"


def test_there_is_no_such_board(tmp_path):
    with pytest.raises(Problem, match="no board 'esp33': take one of esp32, .*rpi_pico_w") as e:
        boards.load("esp33")
    assert e.value.status == MISUSE
    with pytest.raises(Problem, match="x.toml can't be read: No such file"):
        boards.load(str(tmp_path / "x.toml"))
    (tmp_path / "y.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(Problem, match="y.toml is not UTF-8"):
        boards.load(str(tmp_path / "y.toml"))


# A wrong one. Each case: what is replaced in esp32c3.toml, by what, what is said. The line is
# where the replacement stands.

WRONG = [
    ("name", '"ESP32-C3"', "7", "name must be a text"),
    ("name", '"ESP32-C3"', '" "', "name must be a text"),
    ("chip", '"esp32c3"', '"esp8266"', "chip must be 'esp32' or"),
    ("arch", '"rv32imc"', '"rv64imc"', "arch must be 'xtensawin' or"),
    ("firmware", '"ESP32_GENERIC_C3"', "true", "firmware must be a text"),
    ("read_in", '["1.25.0", "1.26.1", "1.27.0", "1.28.0"]', "[1.25]", "read_in must be a list"),
    ("read_in", '["1.25.0", "1.26.1", "1.27.0", "1.28.0"]', "[]", "read_in must be a list"),
    ("carriers", '["udp", "ip"]', '["tcp"]', 'carriers must hold "udp", "ip" or both'),
    ("carriers", '["udp", "ip"]', '["udp", "udp"]', 'carriers must hold "udp", "ip" or both'),
    ("size", "0x400000", "0x300000", "[flash]: size must be a power of two"),
    ("size", "0x400000", '"4MB"', "[flash]: size must be a whole number"),
    ("format", '"bin"', '"hex"', "[flash]: format must be 'bin' or 'uf2'"),
    ("offset", "0", "100", "[flash]: offset must be a multiple of 4096"),
    ("offset", "0", "-1", "[flash]: offset must be a whole number"),
    ("offset", "0", "0x9000", "[flash]: offset, table and [vfs] must lie in this order"),
    ("table", "0x8000", "0x8001", "[flash]: table must be a multiple of 4096"),
    ("offset", "0x200000", "0x200800", "[vfs]: offset must be a multiple of 4096"),
    ("size", "0x200000", "0x1000", "[vfs]: size must be a whole number from 8192"),
    ("size", "0x200000", "0x201000", "[vfs]: it ends behind the end of the flash"),
    ("block", "4096", "512", "[vfs]: block must be a whole number"),
    ("program", "32", "33", "[vfs]: program must be a power of two"),
    ("sas", "4", "1", "[limits]: sas must be a whole number from 2 to 64"),
    ("senders", "16", "17", "[limits]: senders must be a power of two"),
    ("payload", "1400", "1473", "[limits]: payload must be a whole number from 1 to 1472"),
    ("heap", "0x20000", "0", "[memory]: heap must be a whole number"),
    ("heap_from", None, '""', "[memory]: heap_from must be a text"),
    ("heap_from", None, '"-"\npsram = true', "[memory]: psram must be 'optional' or 'always'"),
    ("carriers", '["udp", "ip"]', '["udp"]\nconstant_time = 1', "constant_time must be true or"),
    ("led", "8", "300", "[pins]: led must be a pin's number"),
    ("led", "8", "[8]", "[pins]: led must be a pin's number"),
    ("led_kind", '"neopixel"', '"rgb"', "[pins]: led_kind must be 'pin' or 'neopixel'"),
    ("button", "9", "true", "[pins]: button must be a pin's number"),
]


@pytest.mark.parametrize("key, old, new, said", WRONG)
def test_a_wrong_value(key, old, new, said):
    pattern = rf"^{key}( *= *)({re.escape(old) if old else '.*'})"
    found = re.search(pattern, TEXT, re.M)
    text = TEXT[: found.start(2)] + new + TEXT[found.end(2) :]
    if key == "offset" and new == "0x9000":  # the table is what is out of order
        key = "table"
        found = re.search(r"^table", TEXT, re.M)
    line = TEXT[: found.start()].count("\n") + 1 + new.count("\n")
    assert _refusal(text).startswith(f"b.toml:{line}: {said}"), _refusal(text)


@pytest.mark.parametrize(
    "key, where", [(k, None) for k in ("name", "arch", "firmware", "read_in", "carriers")]
)
def test_a_key_of_the_file_that_is_missing(key, where):
    text = re.sub(rf"^{key} *=.*\n", "", TEXT, count=1, flags=re.M)
    assert _refusal(text) == f"b.toml: {key} is missing."


@pytest.mark.parametrize(
    "table, key",
    [("flash", "size"), ("flash", "format"), ("vfs", "block"), ("limits", "sas")]
    + [("memory", "heap_from"), ("vfs", "program")],
)
def test_a_key_of_a_table_that_is_missing(table, key):
    start = TEXT.index(f"[{table}]")
    text = TEXT[:start] + re.sub(rf"^{key} *=.*\n", "", TEXT[start:], count=1, flags=re.M)
    line = TEXT[:start].count("\n") + 1
    assert _refusal(text) == f"b.toml:{line}: [{table}]: {key} is missing."


@pytest.mark.parametrize("table", ["flash", "vfs", "limits", "memory"])
def test_a_table_that_is_missing(table):
    text = re.sub(rf"^\[{table}\][^\[]*", "", TEXT, flags=re.M)
    assert _refusal(text) == f"b.toml: the table [{table}] is missing."


def test_pins_may_be_missing():
    assert boards.parse(TEXT[: TEXT.index("[pins]")], "b", "b.toml").pins == {}


def test_constant_time():
    for text, value in (("", None), ("constant_time = true\n", True)):
        assert boards.parse(text + TEXT, "b", "b.toml").constant_time is value
    assert _refusal("constant_time = true\n" + PICO) == (
        'b.toml:1: constant_time has no place where arch is "armv6m".'
    )
    never = boards.parse("constant_time = false\n" + PICO, "pico", "b.toml")
    assert never.constant_time is False
    for name in NAMES:
        board = boards.load(name)
        assert board.constant_time is None, "who has the board chooses"
        is_cached = board.chip in ("esp32", "esp32s2", "esp32s3")
        assert board.psram == (boards.OPTIONAL if is_cached else None)
    assert boards.choose(board, None) is board and boards.choose(board, False) != board
    with pytest.raises(Problem, match="Board pico has no --constant-time: its processor"):
        boards.choose(never, True)


def test_a_key_that_is_unknown():
    text = TEXT.replace("[limits]", "[limits]\nslots = 3")
    line = text[: text.index("slots")].count("\n") + 1
    assert _refusal(text) == (
        f"b.toml:{line}: [limits]: slots is no key here: remove it or mend its spelling."
    )
    assert _refusal("colour = 1\n" + TEXT).startswith("b.toml:1: colour is no key here")
    assert _refusal(TEXT + "[radio]\n").startswith(
        f"b.toml:{TEXT.count(chr(10)) + 1}: radio is no"
    )


def test_a_table_that_is_none():
    text = "vfs = 3\n" + re.sub(r"^\[vfs\][^\[]*", "", TEXT, flags=re.M)
    assert _refusal(text) == "b.toml:1: vfs is a table: [vfs]."


def test_what_belongs_to_one_form_only():
    line = TEXT[: TEXT.index("table = 0x8000")].count("\n") + 1
    assert _refusal(re.sub(r"table = .*\n", "", TEXT)).endswith(
        'table is missing where format is "bin".'
    )
    assert _refusal(re.sub(r"chip = .*\n", "", TEXT)).startswith("b.toml: chip is missing")
    text = TEXT.replace("table = 0x8000", "table = 0x8000\nbase = 0")
    assert (
        _refusal(text) == f'b.toml:{line + 1}: [flash]: base has no place where format is "bin".'
    )
    assert boards.parse(PICO, "p", "p.toml").format == UF2
    assert 'family is missing where format is "uf2"' in _refusal(
        re.sub(r"family = .*\n", "", PICO)
    )
    assert _refusal('chip = "esp32"\n' + PICO).startswith("b.toml:1: chip has no place")


def test_what_is_no_toml():
    assert _refusal(TEXT.replace("[vfs]", "[vfs")).startswith("b.toml:"), "with its line"
    line = TEXT[: TEXT.index("[vfs]")].count("\n") + 1
    assert f"b.toml:{line}: " in _refusal(TEXT.replace("[vfs]", "[vfs"))


def test_the_line_of_a_value_over_several_lines():
    """And of keys that only look like it: in a comment, in a text, in another table."""
    several = '# carriers = ["udp"]\n\ncarriers = [\n  "udp",\n  "tcp",\n]'
    text = TEXT.replace('carriers = ["udp", "ip"]', several)
    line = text.splitlines().index("carriers = [") + 1
    assert _refusal(text).startswith(f"b.toml:{line}: carriers must hold")
    text = 'name = """\nchip = 3\n"""\n' + re.sub(r"^name = .*\n", "", TEXT, flags=re.M).replace(
        '"esp32c3" ', "3 "
    )
    text = text.replace('chip = "esp32c3"', "chip = 3")
    assert _refusal(text).startswith(f"b.toml:{text.splitlines().index('chip = 3', 2) + 1}: chip")
    dotted = re.sub(r"^\[vfs\][^\[]*", "", TEXT, flags=re.M)
    dotted = "vfs.offset = 1\nvfs.size = 0x200000\nvfs.block = 4096\nvfs.program = 32\n" + dotted
    assert _refusal(dotted).startswith("b.toml:1: [vfs]: offset must be a whole number")


def _refusal(text):
    with pytest.raises(Problem) as caught:
        boards.parse(text, "b", "b.toml")
    assert caught.value.status == MISUSE and caught.value.sentence.endswith(".")
    return caught.value.sentence


def test_the_document_explains_each_key():
    text = TEXTS[ROOT / "docs" / "porting.md"]
    schema = [*boards._TOP, *(key for table in boards._TABLES.values() for key in table)]
    assert [key for key in schema if f"`{key}`" not in text] == []
