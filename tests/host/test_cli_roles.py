"""`covey member add --role` and `covey member allow`, without a server: what they write."""

import json

from test_cli import covey, objects, site

__all__ = ("covey", "site")
_YARD = ("group", "add", "yard", "--address", "239.192.1.40", "--port", "2223")


def rules(covey):
    found = objects(covey("member", "list", "--json"))
    return {(row["member"], row["group"]): row["role"] for row in found}


def file_of(site, name):
    return json.loads((site / "members" / name / "covey.json").read_text())


def test_roles_of_new_members(covey, site):
    for name, how in (
        ("a", ()),
        ("b", ("--sender",)),
        ("c", ("--role", "both")),
        ("d", ("--role", "sender")),
        ("e", ("--role", "receiver")),
    ):
        assert covey("member", "add", name, "--group", "line1", *how).status == 0
    found = {name: role for (name, _), role in rules(covey).items()}
    assert found == {
        "a": "receiver",
        "b": "both",
        "c": "both",
        "d": "sender",
        "e": "receiver",
    }
    asks = {
        name: (file_of(site, name)["sender"], file_of(site, name).get("receiver"))
        for name in found
    }
    quiet, sends = (False, None), (True, None)
    assert asks == {"a": quiet, "b": sends, "c": sends, "d": (True, False), "e": quiet}
    for name, how, why in (("d", "--listen", "only sends"), ("e", "--send=x", "is a receiver")):
        said = covey("join", name, how)
        assert said.status == 2 and why in said.refusal
    for how, why in (
        (("--role", "none"), "do nothing"),
        (("--role", "king"), "no role"),
        (("--role", "both", "--sender"), "leave one"),
    ):
        said = covey("member", "add", "x", "--group", "line1", *how)
        assert said.status == 2 and why in said.refusal
    assert not (site / "members" / "x").exists()


def test_what_a_member_may_is_changed(covey, site):
    covey("member", "add", "press-7", "--group", "line1")
    said = covey("member", "allow", "press-7", "line1", "both")
    assert said.status == 0 and "line1: both, no longer receiver" in said.out
    assert "covey.json: bring it" in said.out and "Sender-ID" in said.out
    assert file_of(site, "press-7")["sender"] is True
    said = covey("member", "allow", "press-7", "y*", "receiver")
    assert said.status == 0 and "changes nothing" in said.out
    assert covey(*_YARD).status == 0
    status = objects(covey("status", "--json"))[0]
    assert status["members"][0]["roles"] == {"line1": "both", "yard": "receiver"}
    assert status["members"][0]["groups"] == {"line1": True, "yard": False}
    assert "yard" in covey("status").out and "receiver" in covey("status").out
    said = covey("member", "allow", "press-7", "line1", "sender")
    assert "No key server is running" in said.out and "of line1" in said.out
    assert "whether press-7 opens nothing is up to it" in said.out
    assert file_of(site, "press-7")["receiver"] is False
    covey("member", "allow", "press-7", "line1", "both")
    said = covey("member", "allow", "press-7", "line1", "receiver")
    assert "line1 has no source_auth" in said.out and "sends nothing is up to it" in said.out
    covey("member", "allow", "press-7", "line1", "sender")
    assert "up to it" not in covey("member", "allow", "press-7", "line1", "none").out
    assert file_of(site, "press-7")["receiver"] is False  # of use to nobody, and left as it was
    why = covey("why", "press-7").out
    assert "may not join line1" in why and "may be a receiver of yard" in why
    assert "was given the rules line1 none, y* receiver" in why
    assert rules(covey) == {("press-7", "line1"): "none", ("press-7", "y*"): "receiver"}
    assert covey("member", "allow", "press-7", "line1", "default").status == 0
    assert rules(covey) == {("press-7", "y*"): "receiver"}
    assert list(objects(covey("why", "press-7", "--json"))[0]["groups"]) == ["yard"]


def test_what_is_refused_changes_nothing(covey, site):
    covey("member", "add", "press-7", "--group", "line1")
    for arguments, why in (
        (("press-8", "line1", "both"), "no member press-8"),
        (("press-7", "line9", "both"), "no group 'line9'"),
        (("press-7", "line9", "none"), "no group 'line9'"),
        (("press-7", "line9", "default"), "no rule for line9"),
        (("press-7", "line1", "king"), "no role"),
        (("press-7", "li ne", "both"), "names no groups"),
        (("press-7", "[l]ine1", "both"), "names no groups"),
        (("../x", "line1", "both"), "can't name a member"),
        (("press-7", "y*", "default"), "no rule for y*"),
        (("press-7", "line1", "default"), "last rule"),
    ):
        said = covey("member", "allow", *arguments)
        assert said.status == 2 and why in said.refusal, said
    assert rules(covey) == {("press-7", "line1"): "receiver"}


def test_a_group_that_its_members_do_not_fit_is_not_added(covey, site):
    for number in range(17):
        covey("member", "add", f"m{number}", "--group", "line1", "--sender")
        covey("member", "allow", f"m{number}", "y*", "both")
    before = (site / "covey.toml").read_text()
    said = covey(*_YARD, "--source-auth", "ecdsa")
    assert said.status == 2 and "serves 16 senders" in said.refusal
    assert (site / "covey.toml").read_text() == before
    covey("member", "allow", "m0", "yard?", "receiver")  # as many characters as y* and more
    covey("member", "allow", "m0", "yar*", "receiver")
    assert covey(*_YARD, "--source-auth", "ecdsa").status == 0
    said = covey("member", "allow", "m0", "yard", "both")
    assert said.status == 2 and "serves 16 senders" in said.refusal
