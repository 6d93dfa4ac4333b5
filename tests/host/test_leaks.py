"""That a secret is found in what a test shows, in whichever form; that no repr has one.

tests/leaks.py looks through all that every other test writes.
"""

import base64
import gc
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key

import leaks
from covey_host import commands
from covey_host.gcks.ledger import encode
from covey_host.site import Site as Directory
from covey_host.store.sealed import Seal, SealedStore
from covey_host.vault.opening import open_store
from gcks_site import Site
from processes import ENVIRONMENT, ROOT
from simulator import story
from simulator.plant import Plant, Setting
from site_bench import Bench

_SECRET = bytes.fromhex("8f21c4b9d0037e5aa61178ff3c92e4550bd7196ea84f30c2517d8be69034acf1")


@pytest.fixture(autouse=True)
def secret():
    leaks.note(_SECRET)
    yield _SECRET
    leaks._texts.clear()  # what is found here is meant to be


@pytest.mark.parametrize(
    "shown",
    [
        _SECRET.hex(),
        _SECRET.hex().upper(),
        "1" + _SECRET.hex(),
        _SECRET.hex(" "),
        _SECRET.hex(":"),
        f"psk={_SECRET.hex()[:32]} ...",
        _SECRET[16:].hex(),
        _SECRET[3:].hex(),
        repr(_SECRET),
        str({"psk": bytearray(_SECRET)}),
        ascii(_SECRET.decode("latin-1")),
        str(list(_SECRET)),
        str(tuple(_SECRET)),
        str(int.from_bytes(_SECRET, "big")),
        str(int.from_bytes(_SECRET, "little")),
        base64.b64encode(_SECRET).decode(),
        "x" + base64.b64encode(b"k" + _SECRET).decode(),
        base64.urlsafe_b64encode(_SECRET).decode(),
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_a_secret_is_found_in_each_form(shown):
    assert leaks.find(f"2026-11-26 added member=press-7 {shown} groups=line1") is not None
    with pytest.raises(AssertionError, match="a secret was shown") as caught:
        leaks.look(shown)
    assert _SECRET.hex()[:16] not in str(caught.value)


@pytest.mark.parametrize(
    "shown",
    [
        "",
        _SECRET[:7].hex(),
        "2026-11-26T16:00:00.000Z rekeyed group=line1 epoch=7 spi=8f21c4b9",
        os.urandom(64).hex(),
        repr(os.urandom(64)),
        base64.b64encode(os.urandom(64)).decode(),
        str(list(range(200))),
        "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
        str(2**2000),
    ],
)
def test_nothing_else_is(shown):
    leaks.note(b"k" * 32)
    leaks.note(bytes(range(32)))
    assert leaks.find(shown) is None


_SHOWS = """
import pytest, sys
from covey.gcm import GCMContext
from covey.port import AESBlock
from covey_host.errors import Problem
from covey_host.gcks.authority import Member

KEY = bytes.fromhex("{key}")

def test_prints():
    GCMContext(KEY[:20])
    print("the TEK is", KEY[:16].hex())

def test_logs(capsys):
    Member("press-7", KEY)
    print(repr(KEY), file=sys.stderr)
    capsys.readouterr()

def test_raises():
    AESBlock(KEY[:16])
    with pytest.raises(Problem):
        raise Problem(f"The key {{KEY[:16].hex()}} is wrong.")

def test_raises_another():
    AESBlock(KEY[:16])
    with pytest.raises(ValueError):
        raise ValueError(KEY)

def test_writes_it():
    AESBlock(KEY[:16])
    sys.stdout.write(KEY.hex())

def test_is_silent():
    AESBlock(KEY[:16])
    with pytest.raises(Problem):
        raise Problem("The key is wrong.")
"""


def test_a_test_that_shows_a_secret_fails(tmp_path):
    """Each in its own way, and the one that shows none passes."""
    (tmp_path / "test_shows.py").write_text(_SHOWS.format(key=_SECRET.hex()))
    (tmp_path / "conftest.py").write_text("from leaks import *  # noqa: F403\n")
    path = os.pathsep.join(str(ROOT / part) for part in ("lib", "host", "tests"))
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    done = subprocess.run(
        [*words, "--rootdir", str(tmp_path), "-c", os.devnull],
        env={**ENVIRONMENT, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    failed = {
        line.split("::")[1].split()[0] for line in done.stdout.splitlines() if "FAILED" in line
    }
    assert failed == {
        "test_prints",
        "test_logs",
        "test_raises",
        "test_raises_another",
        "test_writes_it",
    }, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def _alone():
    """Other tests draw octets by the same seeds: what was a key there may be an SPI here. So their
    secrets are forgotten → what they have left."""
    leaks._pieces.clear()
    return gc.get_objects()


def _kinds_seen(before):
    """Every object of ours that there is, its repr looked through → what there is. before: what
    other tests have left."""
    gc.collect()
    kinds, known = set(), set(map(id, before))
    for each in gc.get_objects():
        if id(each) in known:
            continue
        module = getattr(type(each), "__module__", None)
        if isinstance(module, str) and module.partition(".")[0] in ("covey", "covey_host"):
            kinds.add(type(each).__name__)
            leaks.look(repr(each))
    return kinds


def test_no_repr_of_what_a_key_server_has_shows_a_secret(tmp_path):
    """With members, one of them gone."""
    before = _alone()
    site = Site(
        tmp_path / "state.db",
        wrap=lambda store: SealedStore(store, Seal(_SECRET, bytes(8)), (), True),
    )
    for name in ("press-7", "saw"):
        site.add(name)
        site.gm(name)
    member = site.server.authority.find("press-7")
    site.server.remove_member("saw", site.now)
    site.wait(5_000)
    epoch = site.server._groups["line1"].epoch
    for key in (epoch.tek_keymat, epoch.rekey.keymat):
        assert leaks.find(key.hex()), "it was not noted"
    kinds = _kinds_seen(before)
    assert {"KeyServer", "Epoch", "RekeySA", "IkeSA", "SealedStore", "Keys", "Member"} <= kinds
    assert member.name in repr(member)


def test_no_repr_of_what_members_have_shows_a_secret(monkeypatch):
    seen, before = set(), _alone()

    class Looked(Plant):
        def __exit__(self, *failure):
            try:
                leaks.note(self.station.epoch.tek_keymat)
                seen.update(_kinds_seen(before))
            finally:
                super().__exit__(*failure)

    monkeypatch.setattr(story, "Plant", Looked)
    story.tell(1, setting=Setting(members=3), plot=story.Plot(rekeys=2, packets=5))
    assert {"Member", "Membership", "DataSA", "Config", "KeyStore", "Registration"} <= seen


def test_the_store_of_a_site_tells_its_secrets(tmp_path):
    """What processes had that are no part of this one."""
    commands.init(tmp_path / "site", "gcks.example")
    store = open_store(Directory(tmp_path / "site"))
    signs = load_der_private_key(store.read("authority/signing-key")[0], None)
    scalar = signs.private_numbers().private_value.to_bytes(32, "big")
    other = os.urandom(32)
    leaks._pieces.clear()
    for key, value, _ in store.scan(""):
        leaks.note_stored(key, value)
    store.close()
    leaks.note_stored("group/g/state", encode({"epoch": {"rekey": {"keymat": other}, "n": 1}}))
    assert leaks.find(scalar.hex()) and leaks.find(other.hex())
    leaks.note_stored("group/g/tree/0/0", bytes(8) + _SECRET * 2)
    assert leaks.find(_SECRET.hex())


@pytest.mark.parametrize("whose", ["members/press-7/psk", "site.key", "store"])
def test_what_the_processes_of_a_bench_showed_is_looked_through(tmp_path, whose):
    bench = Bench(tmp_path / "site")
    bench.member("press-7")
    if whose == "store":
        store = bench.store()
        data = store.read("authority/signing-key")[0]
        store.close()
        shown = f"{load_der_private_key(data, None).private_numbers().private_value:064x}"
    else:
        shown = (bench.root / whose).read_text().strip()
    bench.said += f"it said {shown[7:60]}\n"
    with pytest.raises(AssertionError, match="a secret was shown: 53 characters behind"):
        bench.close()
