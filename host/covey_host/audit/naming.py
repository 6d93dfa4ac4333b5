"""A replica gets another name: its audit log goes on under that one."""

from ..gcks.ledger import Ledger
from ..site import Site
from ..vault.opening import open_store
from . import reader, rows
from .chain import BEGIN


def rename(site: Site, former: str, who: str) -> None:
    """Only where the log in this directory is the one of that name: else that is another
    machine's. Nobody may be at work here."""
    found = reader.verify(site, BEGIN, former)
    if found.found or not found.count:
        return
    store = open_store(site)
    try:
        rows.hand_over(Ledger(store), former, who, forget=True)
    finally:
        store.close()
