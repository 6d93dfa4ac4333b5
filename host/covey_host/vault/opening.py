"""A site's store, opened under its site key: the one door to it for commands and key server."""

import os
from pathlib import Path

from .. import site as sites
from ..audit import rows
from ..errors import MISUSE, Problem
from ..output import complain
from ..site import Site
from ..store import sqlite
from ..store.sealed import Seal, SealedStore, is_sealed
from . import sitekey
from .sitekey import SiteKey, SiteKeys

_STORE = "store"  # what this key is derived for


def open_store(site: Site) -> SealedStore:
    """Problem where the store or its key is missing, or they don't belong together.

    A site of an older Covey has no key and plain values: it gets a key now, and whoever takes the
    store's lock first seals them.
    """
    keys = sitekey.find(site.key) or _first_key(site)
    try:
        return open_with(site.store, keys)
    finally:
        keys.wipe()


def open_with(path: Path, keys: SiteKeys) -> SealedStore:
    """Problem where these are not its keys. They can be wiped then."""
    store = sqlite.open_existing(path)
    try:
        return _sealed(store, keys, path)
    except BaseException:
        store.close()
        raise


def store_key(site: Site) -> tuple[bytearray, bytes]:
    """The key that all values are under once the store was locked, and its ID: for processes that
    belong to whoever has the lock. The caller wipes it. Problem where it is missing."""
    keys = sitekey.find(site.key)
    if keys is None:
        raise Problem(f"The key of {site.store} is missing.")
    try:
        return bytearray(keys.newest.derive(_STORE)), keys.newest.id
    finally:
        keys.wipe()


def open_under(site: Site, key: bytes, id: bytes) -> SealedStore:
    """By such a process, wherever the key's file is by now."""
    return SealedStore(sqlite.open_existing(site.store), Seal(key, id))


def change_key(site: Site) -> bytes:
    """A new site key, and all values sealed under it → its ID. Problem where somebody works on
    the store. Killed at any point, whoever takes the lock next brings it to its end."""
    store = open_store(site)
    try:
        store.lock("covey site key")
        keys = _of_file(site)
        key = sitekey.generate()
        try:
            sitekey.write(keys.file, key, (keys.newest,))
            store.seal_under(seal_of(key))
            return key.id
        finally:
            keys.wipe()
            key.wipe()
    finally:
        store.close()


def move_key(site: Site, file: Path) -> None:
    """The site key into another, new file; site.key is a link to it."""
    store = open_store(site)
    try:
        store.lock("covey site key")
        keys = _of_file(site)
        try:
            sitekey.write(file, keys.newest, put=sites.write_private)
            sites.sync_directory(file.parent)
            link = site.key.with_name(f".{site.key.name}.new")
            link.unlink(missing_ok=True)
            link.symlink_to(file)
            os.replace(link, site.key)
            sites.sync_directory(site.root)
            if keys.file != site.key.parent.resolve() / site.key.name:
                keys.file.unlink()
        except OSError as error:
            where = f"{error.filename or file} can't be written"
            raise Problem(f"{where}: {os.strerror(error.errno or 0)}.", MISUSE) from error
        finally:
            keys.wipe()
    finally:
        store.close()


def _of_file(site: Site) -> SiteKeys:
    keys = sitekey.find(site.key)
    if keys.file is None:
        keys.wipe()
        raise Problem(
            f"{keys.place} gives the site key: put another one before it there, and start the key"
            " server, which seals all anew.",
            MISUSE,
        )
    return keys


def create_store(path: Path, file: Path, key_file: Path | None) -> SealedStore:
    """A new store for a site that is being made; file: where its key will be. Unless the key is
    there, or the environment gives it, one is made beside path, or in key_file and linked to."""
    keys = sitekey.find(file)
    if keys is not None and key_file is not None:
        raise Problem(f"{keys.place} gives the site key: leave --key-file out.", MISUSE)
    if keys is None:
        keys = _made(path.with_name(file.name), key_file)
    try:
        store = _sealed(sqlite.create(path), keys, path)
        store.begin()
    finally:
        keys.wipe()
    store.compare_and_swap([(key, 0, value) for key, value in rows.begun().items()], None)
    return store


def seal_of(key: SiteKey) -> Seal:
    return Seal(key.derive(_STORE), key.id)


def _made(file: Path, key_file: Path | None) -> SiteKeys:
    key = sitekey.generate()
    try:
        if key_file is None:
            sitekey.write(file, key, put=sites.write_private)
        else:
            target = key_file.absolute()
            sitekey.write(target, key, put=sites.write_private)
            file.symlink_to(target)
    except FileExistsError:
        raise Problem(f"{key_file} exists already: each site has its own key.", MISUSE) from None
    except OSError as error:
        raise Problem(f"{key_file or file} can't be written: {error.strerror}.") from error
    finally:
        key.wipe()
    return sitekey.read(file)


def _first_key(site: Site) -> SiteKeys:
    store = sqlite.open_existing(site.store)
    try:
        rows = store.scan("", "", 1)
    finally:
        store.close()
    if rows and is_sealed(rows[0][1]):
        raise Problem(
            f"The key of {site.store} is missing: bring it back as {site.key}, or give it by"
            f" {sitekey.VARIABLE}."
        )
    key = sitekey.generate()
    try:
        sitekey.write(site.key, key, plain=True, put=_put_whole)
        sites.sync_directory(site.root)
    except FileExistsError:
        pass  # another command was first
    except OSError as error:
        raise Problem(f"{site.key} can't be written: {error.strerror}.") from error
    finally:
        key.wipe()
    return sitekey.read(site.key)


def _put_whole(path: Path, data: bytes) -> None:
    """A new file that nobody sees half; FileExistsError where there is one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    sites.write_private(draft, data)
    try:
        os.link(draft, path)
    finally:
        draft.unlink()


def _sealed(store: sqlite.SQLiteStore, keys: SiteKeys, path: Path) -> SealedStore:
    newest, *older = (seal_of(key) for key in (keys.newest, *keys.older))
    for _, value, _ in store.scan("", "", 1):
        if is_sealed(value) and not any(seal.has_made(value) for seal in (newest, *older)):
            raise Problem(
                f"{path} is sealed under another key than {keys.place} gives: bring that one back."
            )
        if not is_sealed(value) and not keys.takes_plain:
            raise Problem(
                f"{path} is not sealed, though {keys.place} gives a key: write the word `plain`"
                " behind that key once, if this store is to be trusted."
            )

    def settled() -> None:
        store.checkpoint()
        if keys.file is not None:
            current = sitekey.read(keys.file)
            sitekey.write(keys.file, current.newest)
            current.wipe()
        else:
            complain(
                f"All values are sealed under the first key that {keys.place} gives: take away"
                " what is written behind it."
            )

    return SealedStore(store, newest, older, keys.takes_plain, settled, rows.begun())
