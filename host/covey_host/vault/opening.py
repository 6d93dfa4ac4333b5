"""A site's store, opened under its site key: the one door to it for commands and key server."""

from pathlib import Path

from .. import site as sites
from ..errors import MISUSE, Problem
from ..site import Site
from ..store import Store, sqlite
from ..store.sealed import Seal, SealedStore, is_sealed
from . import sitekey
from .sitekey import SiteKey, SiteKeys


def open_store(site: Site) -> SealedStore:
    """Problem where the store or its key is missing, or they don't belong together.

    A site of an older Covey has no key and plain values: it gets a key now, and whoever takes the
    store's lock first seals them.
    """
    store = sqlite.open_existing(site.store)
    try:
        keys = sitekey.find(site.key) or _first_key(site, store)
        try:
            return _sealed(store, keys, site.store)
        finally:
            keys.wipe()
    except BaseException:
        store.close()
        raise


def create_store(path: Path, file: Path, key_file: Path | None) -> SealedStore:
    """A new store for a site that is being made; file: where its key will be. Unless the key is
    there, or the environment gives it, a new one is made beside path, or in key_file."""
    keys = sitekey.find(file)
    if keys is not None and key_file is not None:
        raise Problem(f"{keys.place} gives the site key: leave --key-file out.", MISUSE)
    if keys is None:
        keys = _made(path.with_name(file.name), key_file)
    try:
        return _sealed(sqlite.create(path), keys, path)
    finally:
        keys.wipe()


def seal_of(key: SiteKey) -> Seal:
    return Seal(key.derive("store"), key.id)


def _made(file: Path, key_file: Path | None) -> SiteKeys:
    key = sitekey.generate()
    try:
        if key_file is None:
            sitekey.write(file, key, put=sites.write_private)
        else:
            target = key_file.absolute()
            if not target.exists():  # a key that is there serves
                sitekey.write(target, key, put=sites.write_private)
            file.symlink_to(target)
    except OSError as error:
        raise Problem(f"{key_file or file} can't be written: {error.strerror}.") from error
    finally:
        key.wipe()
    return sitekey.read(file)


def _first_key(site: Site, store: Store) -> SiteKeys:
    rows = store.scan("", "", 1)
    if rows and is_sealed(rows[0][1]):
        raise Problem(
            f"The key of {site.store} is missing: bring it back as {site.key}, or give it by"
            f" {sitekey.VARIABLE}."
        )
    key = sitekey.generate()
    try:
        sitekey.write(site.key, key, plain=True, put=sites.write_private)
        sites.sync_directory(site.root)
    except FileExistsError:
        pass  # another command was first
    except OSError as error:
        raise Problem(f"{site.key} can't be written: {error.strerror}.") from error
    finally:
        key.wipe()
    return sitekey.read(site.key)


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

    return SealedStore(store, newest, older, keys.takes_plain, settled)
