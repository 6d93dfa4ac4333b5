"""From old keys to new ones: what is left of the old ones in memory once their time is over."""

from covey.sa import keep_keys
from story import STORY, T1
from test_membership import Life

_DTD_MS = 2000  # of the story's rekeys
_AAD = 528  # octets of a constant in the workspace that all keys share; see mpy_gcm


def _memory(member, group):
    """[(what it is, its words or octets)] of the keys of the SAs that are here now."""
    found = []
    for sa in member.keys.live():
        found.append(("TEK", sa.keymat))
        state = getattr(sa.context, "_state", None)
        if state is not None:  # MicroPython: tables, salt, keystream
            found.append(("tables", state))
            found.append(("keystream", sa.context._parts[1][-3][-1]))
    for sa in group.rekey.held:
        found.append(("GSK_e", sa.gsk_e))
        found.append(("GSK_w", sa.kwk))
    return found


def _is_wiped(what, memory):
    return not any(memory[_AAD:] if what == "keystream" else memory)


def test_old_keys_are_wiped_after_dtd_and_not_before():
    """All that this port can lay hands on: cryptolib and `cryptography` keep a key inside."""
    keep_keys()
    life = Life().registered()
    (old,) = life.member.keys.live()
    memory = _memory(life.member, life.it._group)
    assert [what for what, words in memory if not any(words)] in ([], ["keystream"])
    contexts = old.context, life.it._group.rekey.current.context
    life.rekey(STORY["rekey1"])
    life.run(_DTD_MS - 100)
    assert T1 in [bytes(sa.spi) for sa in life.member.keys.live()]
    assert [what for what, words in memory if what != "keystream" and not any(words)] == []
    packet = STORY["packets"]["t1"][0]
    life.member.rx[: len(packet)] = packet
    assert life.member.receive(len(packet), life.now_ms) == 4
    life.run(200)
    assert T1 not in [bytes(sa.spi) for sa in life.member.keys.live()]
    life.run(1100)  # Rekey SAs are looked at each second
    assert [what for what, words in memory if not _is_wiped(what, words)] == []
    for context in contexts:
        assert all(not getattr(context, name, None) for name in ("_salt", "_encrypt", "_state"))
        try:
            context.open(life.member.rx, 0, 8, 12)
        except (TypeError, AttributeError):
            continue
        raise AssertionError("a wiped key opens packets")
