"""What `make run` judges: each verdict holds where all is well, and can fail."""

import copy
from collections import Counter

import pytest

import processes
from covey import ike
from covey_host.demo import imposture, traffic, verdicts
from covey_host.demo.tap import Book
from covey_host.demo.verdicts import Attack, Witness

SPI, OLD_SPI = "0a0b0c0d", "01020304"
PRESS, DESK = "01100001", "02200002"  # connections

# Facts of a run in which all is well, for each test to spoil


def flow(count, first=1):
    return {
        "first": first,
        "last": first + count - 1,
        "count": count,
        "duplicates": 0,
        "late": 0,
        "wrong": 0,
        "gaps": 0,
    }


def member(name, connection=None, frames=0, flows=None, late=False, **more):
    flows = flows or {}
    facts = {
        "frames": frames,
        "sent": frames,
        "unsent": 0,
        "strange": 0,
        "flows": flows,
        "opened": sum(f["count"] for f in flows.values()),
        "drops": {"own": frames} if frames else {},
        "state": "member",
        "spi": SPI,
    }
    return Witness(name, connection, {**facts, **more}, late)


def cast_of_four():
    return [
        member("press", PRESS, 100, {DESK: flow(90)}),
        member("desk", DESK, 90, {PRESS: flow(100)}),
        member("drill", flows={PRESS: flow(100), DESK: flow(90)}),
        member("guest", flows={PRESS: flow(40, 61), DESK: flow(40, 51)}, late=True),
    ]


@pytest.fixture
def well():
    return cast_of_four()


class TestTraffic:
    def test_all_is_well(self, well):
        for judge in (verdicts.nothing_lost, verdicts.nothing_twice, verdicts.content_right):
            assert judge(well).ok, judge(well).detail

    @pytest.mark.parametrize(
        "who, change",
        [
            ("drill", {"count": 99, "gaps": 1}),  # one in the middle
            ("drill", {"count": 99, "last": 99}),  # the last one
            ("drill", {"count": 99, "first": 2}),  # the first one
            ("guest", {"count": 39}),  # a late comer may begin late, and then miss nothing
            ("guest", {"count": 39, "last": 99}),
            ("desk", {"first": 0, "last": 0, "count": 0}),
        ],
    )
    def test_a_lost_packet(self, well, who, change):
        next(w for w in well if w.name == who).flows[PRESS].update(change)
        verdict = verdicts.nothing_lost(well)
        assert not verdict.ok and who in verdict.detail

    def test_a_sender_that_nobody_heard(self, well):
        del well[2].flows[DESK]
        assert not verdicts.nothing_lost(well).ok

    def test_a_packet_that_the_system_did_not_take(self, well):
        well[0].facts["unsent"] = 1
        assert not verdicts.nothing_lost(well).ok

    def test_silence_proves_nothing(self):
        silent = [member("press", PRESS), member("drill")]
        assert not verdicts.nothing_lost(silent).ok

    def test_a_duplicate(self, well):
        well[1].flows[PRESS]["duplicates"] = 1
        assert not verdicts.nothing_twice(well).ok

    @pytest.mark.parametrize("change", [{"strange": 1}, {"opened": 191}, {"opened": 189}])
    def test_a_payload_that_nobody_sent(self, well, change):
        well[2].facts.update(change)
        assert not verdicts.content_right(well).ok

    def test_altered_content(self, well):
        well[2].flows[PRESS]["wrong"] = 1
        assert not verdicts.content_right(well).ok

    def test_a_connection_of_nobody(self, well):
        well[2].flows["6576696c"] = flow(1)
        well[2].facts["opened"] += 1
        assert not verdicts.content_right(well).ok


def packet(spi=SPI, sender=65, number=1):
    iv = bytes([sender >> 8, sender & 255, 0, 0]) + number.to_bytes(4)
    return bytes.fromhex(spi) + number.to_bytes(4) + iv + bytes(40)


def rekey(spi=b"r" * 16, iv=b"12345678", body=bytes(50)):
    head = spi + bytes([ike.SK, 0x20, ike.GSA_REKEY, ike.FLAG_I]) + bytes(12)
    return bytes(4) + head + iv + body


class TestNonces:
    def book(self, *datagrams):
        book = Book()
        for datagram in datagrams:
            book.note(datagram)
        return book

    def test_all_is_well(self):
        book = self.book(
            packet(), packet(number=2), packet(sender=66), packet(OLD_SPI), rekey(), rekey()
        )
        assert verdicts.nonces_once(book, 4).ok
        assert (book.rekeys, book.rekey_repeats) == (1, 1)
        assert book.spis() == [SPI, OLD_SPI] and book.under([SPI]) == 3

    def test_a_repeated_iv_under_one_spi(self):
        assert not verdicts.nonces_once(self.book(packet(), packet(), packet()), 3).ok

    def test_a_rekey_that_repeats_an_iv_with_other_content(self):
        assert not verdicts.nonces_once(self.book(rekey(), rekey(body=bytes(51))), 0).ok

    def test_a_packet_that_the_tap_did_not_see(self):
        assert not verdicts.nonces_once(self.book(packet()), 2).ok

    @pytest.mark.parametrize("datagram", [b"", b"\xff", bytes(35), bytes(40), bytes(200)])
    def test_what_is_neither_packet_nor_rekey(self, datagram):
        assert not verdicts.nonces_once(self.book(packet(), datagram), 1).ok


class TestKeys:
    def test_agreement(self, well):
        assert verdicts.agreed(well, SPI).ok

    @pytest.mark.parametrize("change", [{"spi": OLD_SPI}, {"spi": None}, {"state": "excluded"}])
    def test_disagreement(self, well, change):
        well[3].facts.update(change)
        assert not verdicts.agreed(well, SPI).ok

    def removed(self, **change):
        book = Book()
        for number in range(1, 11):
            book.note(packet(OLD_SPI, number=number))
        for number in range(1, 21):
            book.note(packet(SPI, number=number))
        facts = {"opened": 10, "drops": {"unknown_spi": 25}, "state": "refused", **change}
        refusals = facts.pop("refusals", 1)
        return verdicts.gone_dark(member("panel", **facts), book, [OLD_SPI], refusals)

    def test_a_removed_member_is_dark(self):
        assert self.removed().ok

    @pytest.mark.parametrize(
        "change",
        [
            {"opened": 11},  # something later
            {"opened": 9},  # not all that it had a right to
            {"drops": {"unknown_spi": 19}},  # it did not listen any more
            {"refusals": 0},
            {"state": "member"},
        ],
    )
    def test_a_removed_member_that_is_not(self, change):
        assert not self.removed(**change).ok

    def test_darkness_proves_nothing_where_nothing_was_sent(self):
        book = Book()
        book.note(packet(OLD_SPI))
        panel = member("panel", opened=1, state="refused")
        assert not verdicts.gone_dark(panel, book, [OLD_SPI], 1).ok


class TestAttacks:
    @pytest.mark.parametrize(
        "counted, ok",
        [
            ({"tag": 5, "replay": 2}, True),
            ({"tag": 5, "replay": 2, "own": -1}, True),  # a packet of one's own is under way
            ({"tag": 4, "replay": 2}, False),
            ({"tag": 6, "replay": 2}, False),
            ({"tag": 2, "replay": 5}, False),
            ({"tag": 7}, False),
            ({"tag": 5, "replay": 2, "length": 1}, False),
            ({}, False),
        ],
    )
    def test_each_reason_exactly(self, counted, ok):
        attack = Attack("flip", "flipped bits", 7, {"drill": Counter(tag=5, replay=2)})
        attack.counted["drill"] = Counter(counted)
        assert verdicts.repelled(attack).ok is ok

    def test_on_each_member(self):
        expected = {"drill": Counter(tag=5), "desk": Counter(tag=5)}
        attack = Attack("flip", "flipped bits", 5, expected, {"drill": Counter(tag=5)})
        verdict = verdicts.repelled(attack)
        assert not verdict.ok and "desk" in verdict.detail

    def test_no_attack_proves_nothing(self):
        assert not verdicts.repelled(Attack("flip", "flipped bits", 0, {"drill": Counter()})).ok
        assert not verdicts.repelled(Attack("flip", "flipped bits", 5)).ok

    @pytest.mark.parametrize(
        "counted, ok",
        [
            ({"a": 3}, True),
            ({"b": 1, "a": 2}, True),
            ({"b": 2}, False),
            ({"c": 3}, False),
            ({"a": 3, "c": 1}, False),
        ],
    )
    def test_one_of_several_reasons(self, counted, ok):
        assert verdicts.matches(Counter({"a|b": 3}), Counter(counted)) is ok

    def test_several_reasons_beside_one_of_them(self):
        expected = Counter({"a|b": 3, "b": 2, "c": 1})
        assert verdicts.matches(expected, Counter(a=1, b=4, c=1))
        assert not verdicts.matches(expected, Counter(a=1, b=4))

    def test_a_sender_takes_what_bears_its_name_for_its_own(self):
        sorts = [["tag", 65, 3], ["tag", None, 2], ["stale_sender", None, 1], [None, None, 9]]
        assert verdicts.expected_of(sorts, 65) == Counter(own=3, tag=2, stale_sender=1)
        assert verdicts.expected_of(sorts, None) == Counter(tag=5, stale_sender=1)

    def explained(self, well, **drops):
        attack = Attack("flip", "flipped bits", 7, {"press": Counter(tag=5, own=2)})
        repelled = {"own": 102, "tag": 5, "rekey_repeat": 3, "rekey_spi": 1, **drops}
        well[0].facts["drops"] = repelled
        for other in well[1:]:
            other.facts["drops"]["rekey_repeat"] = 4
        return verdicts.explained(well[:3], [attack], 4)

    def test_every_drop_is_explained(self, well):
        assert self.explained(well).ok
        assert self.explained(well, ike_message_id=2).ok  # an answer that came twice

    @pytest.mark.parametrize(
        "drops", [{"tag": 6}, {"tag": 4}, {"own": 101}, {"own": 103}, {"length": 1}]
    )
    def test_a_drop_that_nothing_explains(self, well, drops):
        assert not self.explained(well, **drops).ok


class TestRegistrations:
    @pytest.mark.parametrize(
        "lies, counted, state, ok",
        [
            (3, 3, "member", True),
            (2, 2, "member", False),
            (3, 2, "member", False),
            (3, 3, "refused", False),
        ],
    )
    def test_forged_errors(self, lies, counted, state, ok):
        guest = member("guest", drops={"ike_clear_error": counted}, state=state)
        assert verdicts.lied_to(guest, lies, 3).ok is ok

    @pytest.mark.parametrize(
        "events, counted, ok",
        [
            (["failed no_way"], 1, True),
            (["failed other"], 1, False),
            (["failed no_way"], 0, False),
            (["registered", "failed no_way"], 1, False),
            ([], 1, False),
        ],
    )
    def test_turned_away(self, events, counted, ok):
        said = [dict(zip(("event", "detail"), e.split(), strict=False)) for e in events]
        assert verdicts.turned_away("a stranger", "no_way", said, counted).ok is ok

    def test_acknowledged(self):
        def verdict(holders, *statuses):
            return verdicts.acknowledged("line2", ("a", "b"), holders, statuses)

        assert verdict(["b", "a"], 143, 143).ok
        assert not verdict(["b"], 143, 143).ok
        assert not verdict(["b", "a"], 143, 0).ok
        assert not verdict(["b", "a"], -15, 143).ok

    def test_the_end(self):
        assert verdicts.ended({"press": 0, "server": 0}, [], True).ok
        assert not verdicts.ended({"press": 0, "server": -15}, [], True).ok
        assert not verdicts.ended({"press": 0, "server": 0}, ["press"], True).ok
        assert not verdicts.ended({"press": 0, "server": 0}, [], False).ok


class TestImposture:
    """10 forged commands; before them the valve had dropped 20 for want of a proof."""

    @staticmethod
    def ok(mode, drops, obeyed=0, missed=0, heard=10):
        drops = {"source": 5, "unsafe": 15} | {
            reason: n + {"source": 5, "unsafe": 15}.get(reason, 0) for reason, n in drops.items()
        }
        before = imposture.Count(100, 80, {"source": 5, "unsafe": 15})
        after = imposture.Count(150, 130 - missed, drops)
        told = imposture.Told(mode, 10, obeyed, heard, before, after)
        return imposture.judged(told).ok

    @pytest.mark.parametrize(
        "mode, drops, facts",
        [
            ("none", {"replay": 30}, {"obeyed": 10, "missed": 30, "heard": 0}),
            ("mac", {"source": 10}, {}),
            ("tesla", {"source": 5, "unsafe": 5}, {}),
            ("tesla", {"source": 5, "unsafe": 7}, {"missed": 2}),
            ("ecdsa", {"source": 9, "crowded": 1}, {}),
        ],
    )
    def test_it_came_as_it_must(self, mode, drops, facts):
        assert self.ok(mode, drops, **facts)

    @pytest.mark.parametrize(
        "mode, drops, facts",
        [
            ("none", {"replay": 30}, {"obeyed": 9}),
            ("mac", {"source": 9}, {"obeyed": 1}),
            ("mac", {}, {}),  # all were dropped before
            ("tesla", {"source": 4, "unsafe": 6}, {"missed": 1}),  # one may be genuine
            ("tesla", {"unsafe": 10}, {}),
            ("tesla", {"source": 10}, {}),
            ("tesla", {"source": 10, "unsafe": 2}, {"missed": 2}),
            ("ecdsa", {"unproven": 10}, {}),
            ("ecdsa", {"source": 10}, {"heard": 9}),
        ],
    )
    def test_or_not(self, mode, drops, facts):
        assert not self.ok(mode, drops, **facts)


class TestFlows:
    def numbers(self, *numbers):
        one = traffic.Flow(b"abcd")
        for number in numbers:
            one.note(number)
        return one.facts()

    def test_in_order(self):
        assert self.numbers(*range(1, 200)) == flow(199)

    def test_a_gap(self):
        facts = self.numbers(1, 2, 4)
        assert (facts["count"], facts["gaps"], facts["late"]) == (3, 1, 0)

    def test_late_is_not_lost(self):
        facts = self.numbers(1, 3, 2, 4)
        assert (facts["count"], facts["gaps"], facts["late"], facts["duplicates"]) == (4, 0, 1, 0)

    def test_too_late_is_lost(self):
        facts = self.numbers(1, 3, *range(4, 100), 2)
        assert (facts["gaps"], facts["late"]) == (1, 0) and facts["duplicates"] == 1

    def test_a_long_gap(self):
        facts = self.numbers(1, 5000, 5001)
        assert facts["gaps"] == 4998 and facts["count"] == 3

    @pytest.mark.parametrize("numbers", [(1, 1), (1, 2, 1), (1, 3, 2, 2)])
    def test_twice(self, numbers):
        assert self.numbers(*numbers)["duplicates"] == 1

    def test_content_follows_from_connection_and_number(self):
        source, flows = traffic.Source(b"abcd"), traffic.Flows()
        source._producer.sequence_low = 0xFFFE  # over the border of the lower half
        source._producer.count = 0xFFFE
        frames = [bytes(source.make()) for _ in range(4)]
        for frame in frames:
            flows.take(frame)
        assert flows.facts() == {"61626364": flow(4, 0xFFFF)}
        assert len({frame[traffic.cip.DATA :] for frame in frames}) == 4

    @pytest.mark.parametrize("at", [10, 12, 18, 20, 51])
    def test_an_altered_octet_is_wrong(self, at):
        frame = traffic.Source(b"abcd").make()
        frame[at] ^= 1
        flows = traffic.Flows()
        flows.take(bytes(frame))
        assert flows.facts()["61626364"]["wrong"] == 1

    @pytest.mark.parametrize("payload", [b"", b"speed=1500", bytes(52)])
    def test_what_is_no_frame_is_strange(self, payload):
        flows = traffic.Flows()
        flows.take(payload)
        assert flows.strange == 1 and not flows.facts()


def test_the_facts_above_are_those_of_a_player():
    """What the tests spoil has the names that a player reports."""
    facts = copy.deepcopy(cast_of_four()[0].facts)
    player = (processes.ROOT / "host/covey_host/demo/player.py").read_text()
    for name in ("frames", "unsent", "flows", "strange"):
        assert name in facts and f'status["{name}"]' in player
    assert traffic.Flow(b"abcd").facts().keys() == flow(1).keys()
