"""What must hold of the acts of `make cluster`: each a Verdict that can fail."""

from ..demo.verdicts import Verdict
from ..gcks.epoch import decode_state
from ..gcks.ledger import decode
from .acts import Done
from .history import History


def let_in(acts: list[Done], refused: list[dict]) -> Verdict:
    """New members came all the time; whatever was done, each was let in."""
    troubles = [f"{each['member']}: {each['why']}" for each in refused[:3]]
    troubles += [f"nobody came: {done.what}" for done in acts if not done.let_in]
    slowest = max(acts, key=lambda done: done.slowest_s, default=Done("nothing"))
    total = sum(done.let_in for done in acts)
    detail = f"{total}; the slowest after {slowest.slowest_s:.2f} s ({slowest.what})"
    return _verdict("whoever comes is let in, whatever is done", troubles, detail)


def removed_once(history: History, member: str) -> Verdict:
    """By one write, which brought the group its new keys, too."""
    count = removals(history, member)
    troubles = [] if count == 1 else [f"{member} was removed {count} times"]
    detail = f"{member}, by one write, with new keys"
    return _verdict("a removal while the holder is dead is done once", troubles, detail)


def removals(history: History, member: str) -> int:
    """Writes that took the member's rights away and made new keys of the group."""
    row, state = f"authority/member/{member}", f"group/{history.group}/state"
    is_in, number, before = True, None, None
    removed, made = set(), set()
    for each in history.rows:
        if each.value is None:
            continue
        if each.key == row:
            was_in, is_in = is_in, not decode(each.value)["removed"]
            removed |= {each.revision} if was_in and not is_in else set()
        elif each.key == state:
            before, number = number, decode_state(each.value)[0].number
            made |= {each.revision} if number != before else set()
    return len(removed & made)


def kept_out(member: str, facts: dict) -> Verdict:
    """Of whoever was removed: it asks, and is refused."""
    troubles = []
    if facts["state"] not in ("refused", "registering", "excluded"):
        troubles.append(f"{member} is {facts['state']}")
    return _verdict("the removed member is out", troubles, f"{member} is {facts['state']}")


def stood_still(done: Done) -> Verdict:
    """A holder that was stopped for longer than its term has changed nothing when it went on."""
    facts = done.facts
    troubles = []
    if (facts["spi"], facts["epoch"]) != (facts["spi_then"], facts["epoch_then"]):
        troubles.append(f"keys went from {facts['spi']} to {facts['spi_then']}")
    if facts["leads_then"] == facts["victim"]:
        troubles.append(f"{facts['victim']} holds the term again")
    detail = f"{facts['victim']} follows {facts['leads_then']}, epoch {facts['epoch_then']}"
    return _verdict("a stopped holder that goes on can do nothing", troubles, detail)


def said_no(done: Done) -> Verdict:
    """Without a quorum a command is refused by one sentence."""
    sentence = done.facts["sentence"]
    is_one = sentence.endswith(".") and "Traceback" not in sentence and "\n" not in sentence
    troubles = [] if is_one else [f"it said {sentence!r}"]
    return _verdict("without a quorum a command is refused", troubles, sentence)


def drained(done: Done) -> Verdict:
    status = done.facts["status"]
    troubles = [f"{done.facts['victim']} ended with status {status}"] if status else []
    return _verdict("a server that is drained ends in good order", troubles, "status 0")


def _verdict(name: str, troubles: list[str], detail: str) -> Verdict:
    return Verdict(name, not troubles, "; ".join(troubles) or detail)
