"""A site's directory: private, whole or absent, never overwritten."""

import fcntl
import os
import stat
import subprocess

import pytest

from covey_host import site
from covey_host.errors import MISUSE, Problem
from covey_host.store import sqlite
from processes import start

_TEXT = "# policy\n"


def fill(path):
    store = sqlite.create(path)
    store.compare_and_swap([("a", 0, b"1")], None)
    store.close()


def modes(root):
    return {
        str(each.relative_to(root)): stat.S_IMODE(each.lstat().st_mode)
        for each in [root, *root.rglob("*")]
    }


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_a_new_site_is_private_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        made = site.create(tmp_path / "new", _TEXT, fill)
    finally:
        os.umask(before)
    assert modes(made.root) == {
        ".": 0o700,
        ".gitignore": 0o600,
        "covey.toml": 0o600,
        "state.db": 0o600,
    }
    assert made.policy.read_text() == _TEXT


def test_git_takes_nothing_of_a_site_but_its_policy(tmp_path):
    made = site.create(tmp_path / "site", _TEXT, fill)
    secrets = ["members/press-7/psk", "members/press-7/seed", "members/press-7/press-7-esp32.bin"]
    secrets += [
        "wifi.json",
        "site.key",
        "state.db-wal",
        "keys/esp_sa",
        "backup/state.db",
        "run.pcap",
    ]
    for name in secrets:
        path = made.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    git = ["git", "-C", str(made.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    staged = subprocess.run([*git, "ls-files"], check=True, capture_output=True, text=True).stdout
    assert staged.split() == [".gitignore", "covey.toml"]


def test_an_empty_directory_becomes_one_and_is_closed_to_others(tmp_path):
    root = tmp_path / "empty"
    root.mkdir(0o755)
    site.create(root, _TEXT, fill)
    assert modes(root)["."] == 0o700
    assert sqlite.open_existing(root / "state.db").read("a")[0] == b"1"


def test_a_site_is_never_overwritten(tmp_path):
    root = tmp_path / "site"
    site.create(root, _TEXT, fill)
    before = {p: p.read_bytes() for p in root.iterdir()}
    with pytest.raises(Problem, match="a site already") as caught:
        site.create(root, _TEXT, fill)
    assert caught.value.status == MISUSE
    assert {p: p.read_bytes() for p in root.iterdir()} == before


@pytest.mark.parametrize("name", ["notes.txt", "covey.toml", "members"])
def test_a_directory_in_use_is_refused_untouched(tmp_path, name):
    (tmp_path / name).write_text("mine")
    mode = tmp_path.stat().st_mode
    with pytest.raises(Problem, match="not empty"):
        site.create(tmp_path, _TEXT, fill)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
    assert tmp_path.stat().st_mode == mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, Problem("disk full"), ValueError])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_init_leaves_nothing(tmp_path, error, existing):
    root = tmp_path / "site"
    if existing:
        root.mkdir()

    def fail(path):
        fill(path)
        raise error

    with pytest.raises(error if isinstance(error, type) else Problem):
        site.create(root, _TEXT, fail)
    assert list(root.iterdir()) == [] if existing else not root.exists()
    site.create(root, _TEXT, fill)


_KILLED = """
import os, signal, sys
from pathlib import Path
from covey_host import site
rename, left = os.rename, int(sys.argv[2])
def rename_or_die(a, b):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    rename(a, b)
os.rename = rename_or_die
def fill(path):
    path.write_text("half")
site.create(Path(sys.argv[1]), "# policy\\n", fill)
"""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_killed_init_is_no_site_and_can_be_run_again(tmp_path, renames):
    root = tmp_path / "site"
    child = start("-c", _KILLED, root, renames)
    child.communicate()
    assert child.returncode == -9
    assert root.exists() and not (root / "state.db").exists()
    with pytest.raises(Problem, match="no site"):
        site.find(root)
    site.create(root, _TEXT, fill)
    assert set(modes(root)) == {".", ".gitignore", "covey.toml", "state.db"}
    assert sqlite.open_existing(root / "state.db").read("a")[0] == b"1"


def test_a_failure_between_renamings_leaves_nothing(tmp_path, monkeypatch):
    """Here somebody is left to clean up."""
    rename, left = os.rename, [2]

    def fail_at_last(*names):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        rename(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail_at_last)
        with pytest.raises(Problem, match="No site can be made"):
            site.create(tmp_path, _TEXT, fill)
    assert list(tmp_path.iterdir()) == []


def test_what_another_draft_says_takes_nothing_from_elsewhere(tmp_path):
    root, other = tmp_path / "site", tmp_path / "other"
    (root / ".covey-init").mkdir(parents=True)
    other.mkdir()
    (other / "mine").write_text("mine")
    (root / "linked").symlink_to(other)
    (root / "site.key").write_text("mine")
    names = ["", ".", "..", "../other", str(other), "linked/mine", "site.key", "linked"]
    (root / ".covey-init/.names").write_text("\n".join(names))
    (root / ".covey-init/state.db").write_text("half")
    site.create(root, _TEXT, fill)
    assert (other / "mine").read_text() == (root / "site.key").read_text() == "mine"
    assert not (root / "linked").is_symlink()


def test_two_inits_at_once(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(Problem, match="Another `covey init`"):
        site.create(tmp_path, _TEXT, fill)
    os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "no" / "site", tmp_path / "file" / "site"):
        with pytest.raises(Problem) as caught:
            site.create(root, _TEXT, fill)
        assert caught.value.status == MISUSE
        assert "\n" not in caught.value.sentence


def test_find_by_option_then_environment_then_directory(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        site.create(tmp_path / name, _TEXT, fill)
    monkeypatch.chdir(tmp_path / "c")
    monkeypatch.delenv("COVEY_SITE", raising=False)
    assert site.find(None).root.resolve() == tmp_path / "c"
    monkeypatch.setenv("COVEY_SITE", str(tmp_path / "b"))
    assert site.find(None).root == tmp_path / "b"
    assert site.find(tmp_path / "a").root == tmp_path / "a"
    monkeypatch.setenv("COVEY_SITE", "")
    assert site.find(None).root.resolve() == tmp_path / "c"
    with pytest.raises(Problem, match=r"nowhere is no site.*covey init") as caught:
        site.find(tmp_path / "nowhere")
    assert caught.value.status == MISUSE


@pytest.mark.parametrize("name", ["press-7", "a", "A.b_c-9", "7", "x" * 63])
def test_names_that_are_fine(name):
    assert site.check_name("member", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/a",
        "../x",
        "-a",
        ".a",
        "a\n",
        "a b",
        "a\0",
        "é",
        "x" * 64,
        "a'b",
        "~",
    ],
)
def test_names_that_are_refused(name):
    with pytest.raises(Problem) as caught:
        site.check_name("member", name)
    assert caught.value.status == MISUSE
    assert caught.value.sentence.isprintable() and len(caught.value.sentence) < 200


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_private_files_and_directories(tmp_path, mask):
    before = os.umask(mask)
    try:
        site.private_directory(tmp_path / "d")
        site.write_private(tmp_path / "d" / "f", b"data")
    finally:
        os.umask(before)
    assert modes(tmp_path / "d") == {".": 0o700, "f": 0o600}
    assert (tmp_path / "d" / "f").read_bytes() == b"data"
    with pytest.raises(FileExistsError):
        site.write_private(tmp_path / "d" / "f", b"other")
    (tmp_path / "d").chmod(0o755)
    site.private_directory(tmp_path / "d")
    assert modes(tmp_path / "d")["."] == 0o700
    with pytest.raises(Problem):
        site.private_directory(tmp_path / "d" / "f")
