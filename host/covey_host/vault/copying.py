"""`covey store copy`: a site's store from state.db into etcd, or back, while no server runs.

What is copied are sealed values: the site key stays what it is. store.toml says which of the two
counts, so that writing or removing it is the one step by which the site has moved. The one that
it left is never opened again: state.db is renamed, and etcd's record says where the site went.
"""

import os
from pathlib import Path

from .. import site as sites
from ..audit import rows
from ..errors import MISUSE, Problem
from ..gcks import sitepolicy
from ..gcks.ledger import Ledger
from ..site import Site
from ..store import Ousted, Store, etcd, location, moving, sqlite
from ..store.location import Own
from ..store.place import Place
from .opening import open_store

_OWNER = "covey store copy"
_ID_LEN = 8
_LEFT = ".moved"


def into_etcd(site: Site, place: Place) -> int:
    """→ how many entries. Problem, and the site stays where it is, where it can't be."""
    _seal_all(site, "", location.own_name())
    store = sqlite.open_existing(site.store)
    try:
        store.lock(_OWNER)
        store.checkpoint()
        id = os.urandom(_ID_LEN).hex()
        all = moving.content(store)
        moving.create(place, id, all)
        copy = etcd.open_existing(place, id)
        try:
            _verify(all, copy, place.url)
        finally:
            copy.close()
        location.write(site, place, id)
        os.replace(site.store, site.store.with_name(site.store.name + _LEFT))
        for path in _logs(site.store):  # another state.db would be taken for theirs
            path.unlink()
        sites.sync_directory(site.root)
    finally:
        store.close()
    return len(all.entries)


def into_file(site: Site) -> int:
    """The same back into state.db."""
    _seal_all(site, location.replica_of(site), "")
    store = location.open_existing(site)
    draft = site.store.with_name(f".{site.store.name}.new")
    try:
        store.lock(_OWNER)
        if site.store.exists():
            raise Problem(f"{site.store} exists already: no store is overwritten.", MISUSE)
        all = moving.content(store)
        _remove(draft)
        copy = sqlite.create(draft)
        try:
            copy.compare_and_swap([(key, 0, value) for key, value in all.entries.items()], None)
            copy.take_numbers(all.counters, all.term, all.owner)
            _verify(all, copy, str(site.store))
        finally:
            copy.close()
        _remove(site.store)  # what was left beside it
        os.replace(draft, site.store)
        sites.sync_directory(site.root)
        try:
            store.mark_moved(str(site.store.resolve()))
        except Ousted:  # we were stopped: others may have worked there since
            _remove(site.store)
            raise
        site.elsewhere.unlink()
        sites.sync_directory(site.root)
    finally:
        store.close()
    return len(all.entries)


def attach(option: Path | None, place: Place, own: Own | None = None) -> Site:
    """The site whose store is there, with store.toml written if this directory has none. Problem
    where its store is another one. own: None: as store.toml has it."""
    site = Site(option or Path(os.environ.get("COVEY_SITE") or "."))
    known = location.read(site)
    if known is not None:
        if known[0].url != place.url:
            raise Problem(f"{site.elsewhere} names another store, {known[0].url}.", MISUSE)
        id = known[1]
    elif site.store.exists():
        raise Problem(
            f"The site's store is {site.store}: move it by `covey store copy state.db"
            f" {place.url}` first.",
            MISUSE,
        )
    else:
        store = etcd.open_existing(place, "")
        id = store.id
        store.close()
    own = location.own_of(site) if own is None else own
    if known is None or known[0] != place or own != location.own_of(site):
        had = site.elsewhere.read_bytes() if known else None
        location.write(site, place, id, own)
        try:
            open_store(site).close()  # the site key is the one of that site
        except BaseException:
            if had is None:
                site.elsewhere.unlink()
            else:
                sites.replace_private(site.elsewhere, had)
            raise
    return sites.find(option)


def _seal_all(site: Site, former: str, who: str) -> None:
    """All values under the newest key, and the audit log as that of a replica `who`, "" for none.
    Whoever works on the site is heard of now."""
    store = open_store(site)
    try:
        store.lock(_OWNER)
        rows.hand_over(Ledger(store), former, who)
        if who:  # what an earlier time in etcd has left; the file may have changed since
            sitepolicy.forget(Ledger(store))
    finally:
        store.close()


def _verify(all: moving.Content, copy: Store, name: str) -> None:
    if moving.content(copy) != all:
        raise Problem(f"What {name} gives back is not what was written: the site stays.")


def _logs(file: Path) -> list[Path]:
    """SQLite's files beside this one."""
    beside = [file.with_name(file.name + suffix) for suffix in ("-wal", "-shm")]
    return [path for path in beside if path.exists()]


def _remove(file: Path) -> None:
    for path in (file, *_logs(file)):
        path.unlink(missing_ok=True)
