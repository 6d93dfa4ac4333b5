"""A member as its board gets it: what lies in members/NAME/, and what the site knows besides."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from covey.config import Config
from covey.drops import ConfigError

from .. import site as sites
from ..commands import perform
from ..errors import MISUSE, Problem
from ..gcks import policy
from ..gcks.policy import ECDSA, MAC, NONE, TESLA, UNICAST, GroupPolicy
from ..gcks.roles import Role, role_in, role_named

SEED_LEN = 32
_FILES = ("psk_file", "key_file", "certificate_file", "ca_file", "ppk_file", "server_key_file")


@dataclass(frozen=True)
class Member:
    """Secrets in here: nothing of it is printed."""

    name: str
    folder: Path
    fields: dict = field(repr=False)  # covey.json
    files: dict[str, bytes] = field(repr=False)  # keys and certificates that covey.json names
    seed: bytes | None = field(repr=False)
    wifi: bytes | None = field(repr=False)  # {"ssid": …, "password": …}; None: nobody said it yet
    policy: GroupPolicy | None  # of its group, where it is known
    senders: int | None  # members of its group that may send, likewise

    @property
    def roles(self) -> set[str]:
        """What its group's policy may choose for it, besides the board's carriers: see
        code.select. Where nobody knows the policy, all."""
        found = {"relay"} if self.fields.get("delivery") == UNICAST else set()
        if "ca_file" in self.fields:
            found.add("certificates")
        if "server_key_file" in self.fields:
            found.add("rawkeys")
        if len(self.fields.get("servers", ())) > 1:
            found.add("several")
        if "ppk_file" in self.fields:
            found.add("ppk")
        if self.policy is None:
            return found | {MAC, TESLA, ECDSA}
        return found | {self.policy.source_auth} - {NONE}


def load(option: Path | None, name: str) -> Member:
    """A member of the site, or the path of its directory or covey.json. Problem if it is none.

    Makes the seed where it is missing, once: it stays the same for every later image.
    """
    if os.sep in name or name.endswith(".json"):
        folder = Path(name) if os.path.isdir(name) else Path(name).parent
        site = _site_of(folder)
    else:
        site = sites.find(option)
        folder = site.members / sites.check_name("member", name)
    path = folder / "covey.json"
    if not path.is_file():
        raise Problem(f"There is no {path}: add the member with `covey member add`.", MISUSE)
    fields = _fields(path)
    others = [] if site is None else perform(site, {"do": "member list"})["members"]
    if site is not None and folder.resolve().name not in [each["member"] for each in others]:
        raise Problem(
            f"{folder.name} is no member of this site any more, and its board would be refused:"
            " add one under a new name with `covey member add`.",
            MISUSE,
        )
    return Member(
        name=folder.resolve().name,
        folder=folder,
        fields=fields,
        files={name: _octets(folder / name) for name in named(fields).values()},
        seed=_seed(folder / "seed"),
        wifi=_wifi(folder, site),
        policy=_policy(site, fields["group"]),
        senders=_senders(others, fields["group"]) if site else None,
    )


def _site_of(folder: Path) -> sites.Site | None:
    """The site in whose members/ it lies; None where it was carried elsewhere."""
    root = folder.resolve().parents[1:2]
    if folder.resolve().parent.name != "members":
        return None
    if not any((root[0] / name).is_file() for name in ("state.db", "store.toml")):
        return None
    return sites.find(root[0])


def _fields(path: Path) -> dict:
    """covey.json, checked by the same code as on the board."""
    try:
        fields = json.loads(_octets(path))
    except ValueError:
        raise Problem(f"{path} is not JSON.", MISUSE) from None
    try:
        Config(fields, f"{path.parent}/", str(path)).wipe()
    except ConfigError as error:
        raise Problem(str(error), MISUSE) from None
    for field_name, name in named(fields).items():
        if os.sep in name:
            what = f"{field_name} must be a name without {os.sep!r} on a board."
            raise Problem(f"{path}: {what}", MISUSE)
    return fields


def named(fields: dict) -> dict[str, str]:
    """The files beside a covey.json that it names, by its fields."""
    return {name: fields[name] for name in _FILES if fields.get(name) is not None}


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from None


def _seed(path: Path) -> bytes:
    if not path.exists():
        sites.write_private(path, os.urandom(SEED_LEN))
        sites.sync_directory(path.parent)
    seed = _octets(path)
    if len(seed) != SEED_LEN:
        raise Problem(
            f"{path} must hold {SEED_LEN} random octets: remove it, and it is made anew."
        )
    return seed


def _wifi(folder: Path, site: sites.Site | None) -> bytes | None:
    """The member's own settings, else its site's."""
    for path in (folder / "wifi.json", site.root / "wifi.json" if site else None):
        if path is not None and path.exists():
            return _octets(path)
    return None


def _policy(site: sites.Site | None, group: str) -> GroupPolicy | None:
    return None if site is None else policy.load(site.policy).groups.get(group)


def _senders(members: list[dict], group: str) -> int:
    rules: dict[str, dict[str, Role]] = {}
    for row in members:
        rules.setdefault(row["member"], {})[row["group"]] = role_named(row["role"])
    return sum(role_in(one, group).sends for one in rules.values())
