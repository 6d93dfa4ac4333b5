"""The words of the data path are laid out alike wherever they are written down."""

import ast
from pathlib import Path

from covey import drops, esp, sentences

LIB = Path(__file__).resolve().parents[2] / "lib" / "covey"
FILES = ["path.py", "replay.py", "sa.py", "sources.py", "port/mpy_path.py", "port/cpy_path.py"]


def numbers_of(name):
    """Every `_X = const(n)`, `_X = n` and `_X = -n` at the top of a file."""
    found = {}
    for node in ast.parse((LIB / name).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value
            if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "const":
                value = value.args[0]
            try:
                found[node.targets[0].id.lstrip("_")] = ast.literal_eval(value)
            except ValueError:
                pass
    return {key: value for key, value in found.items() if isinstance(value, int)}


def test_one_name_one_number():
    everywhere = {}
    for name in FILES:
        for key, value in numbers_of(name).items():
            assert everywhere.setdefault(key, (value, name))[0] == value, (key, name)


def test_what_a_port_tells_has_its_number():
    for name in ("port/mpy_address.py", "port/mpy_socket.py"):
        for key, value in numbers_of(name).items():
            assert getattr(sentences, key, value) == value, key
    assert numbers_of("port/mpy_socket.py")["NO_GROUP"] == sentences.NO_GROUP


def test_both_ports_know_the_same():
    mpy, cpy = numbers_of("port/mpy_path.py"), numbers_of("port/cpy_path.py")
    # What is noted of the packet in work: in plain Python a flow holds most of it.
    notes = {"WINDOW", "NEWEST_OF", "ROW", "BIT", "SENDER", "BITS_OF", "LOW_BITS_OF"}
    assert mpy.keys() - cpy.keys() == notes
    own = {"FLOW", "NUMBER", "FLOWS", "LAST_ROW", "LEAST_TEXT", "TWO_OF_PADDING"}
    assert cpy.keys() - mpy.keys() == own
    assert (cpy["FLOW"], cpy["NUMBER"]) == (mpy["WINDOW"], mpy["NEWEST_OF"])
    assert cpy["FLOWS"] == mpy["TABLE_OF"] + 1  # the second word of that link
    assert len(cpy) > 50


def test_no_word_of_a_path_serves_twice():
    path = {**numbers_of("path.py"), **numbers_of("port/mpy_path.py")}
    links = {"RX", "TX", "SA", "WINDOW"}
    words = {"DUE", "RX_LEN", "PAYLOAD_MAX", "USED", "OUT", "BIT", "NEWEST_OF", "ROW", "SENDER"}
    words |= {"NAMED", "FROM", "PAYLOAD_LEN", "OPENED", "WANTS", "SENT", "BITS_OF", "LOW_BITS_OF"}
    taken = [path[name] for name in words | links] + [path[name] + 1 for name in links]
    assert sorted(taken) == list(range(path["RECORDS"]))


def test_reasons_and_offsets_are_those_of_their_files():
    for key, value in numbers_of("port/cpy_path.py").items():
        if key.startswith("DROP_"):
            assert getattr(drops, key) == value
    numbers = numbers_of("port/cpy_path.py")
    assert numbers["STEP_IS_DUE"] not in {*drops.names(), drops.IKE_MESSAGE}
    assert (numbers["LEAST"], numbers["PAYLOAD"]) == (esp.LEAST, esp.PAYLOAD)
    assert numbers["TEXT"] + 8 == esp.PAYLOAD and numbers["TEXT"] + 16 == esp.OVERHEAD
    assert numbers["MASK"] + 1 == 2 * numbers["HALF"] == 1 << 30
