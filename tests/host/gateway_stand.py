"""A gateway without its two cards: what it asks the system is answered as it should be."""

import json
import socket

from covey_host.gateway import netlink, wires
from covey_host.gateway.fence import Fence

MEMBER = {
    "version": 1,
    "group": "line1",
    "idi": "gate-1",
    "idr": "gcks.example",
    "servers": [{"host": "127.0.0.1"}],
    "psk_file": "psk",
    "sender": True,
}

CARDS = [(3, "127.0.0.1"), (4, "127.0.0.1")]


def stand_in(tmp_path, monkeypatch):
    """Beside a gateway.toml of test_gateway.planned(), with the member that it names."""
    monkeypatch.setattr(wires, "check", lambda *_: CARDS)
    monkeypatch.setattr(wires, "claim", lambda _: socket.socket(socket.AF_UNIX))
    for name in ("check", "put"):
        monkeypatch.setattr(Fence, name, lambda _: None)
    monkeypatch.setattr(Fence, "listen", _nothing_comes)
    monkeypatch.setattr(netlink, "card_towards", lambda _: "veth0")
    (tmp_path / "members/gate").mkdir(parents=True)
    (tmp_path / "members/gate/covey.json").write_text(json.dumps(MEMBER))
    (tmp_path / "members/gate/psk").write_text("00" * 32)


def _nothing_comes(fence):
    fence._ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return fence._ear
