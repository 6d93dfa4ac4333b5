"""Where a site's store is: state.db in its directory, or what store.toml beside it names.

store.toml, 0600, is written by `covey store copy` and `covey serve --store`:

    url = "etcd://a:2379,b:2379,c:2379/plant1"
    id = "..."                                    of the site: no other one is taken for it
    ca = "/etc/covey/etcd-ca.pem"
    cert = "/etc/covey/etcd-cert.pem"
    key = "/etc/covey/etcd-key.pem"
"""

import json
import os
import tomllib
from pathlib import Path

from ..errors import MISUSE, Problem
from ..site import Site, replace_private
from . import Store, sqlite
from .place import Place

_FIELDS = ("url", "id", "ca", "cert", "key")


def read(site: Site) -> tuple[Place, str] | None:
    """The place in etcd and the site's ID there; None: the store is state.db."""
    try:
        fields = tomllib.loads(site.elsewhere.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Problem(
            f"{site.elsewhere} can't be read: {os.strerror(error.errno or 0)}."
        ) from error
    except ValueError as error:
        raise Problem(f"{site.elsewhere} is no TOML: {error}.", MISUSE) from error
    values = [fields.get(name, "") for name in _FIELDS]
    if set(fields) - set(_FIELDS) or not all(isinstance(value, str) for value in values):
        raise Problem(f"{site.elsewhere} takes {', '.join(_FIELDS)}, each a text.", MISUSE)
    url, id, *files = values
    place = Place(url, *files)
    place.check()
    return place, id


def write(site: Site, place: Place, id: str) -> None:
    values = (place.url, id, place.ca, place.cert, place.key)
    pairs = zip(_FIELDS, values, strict=True)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in pairs if value]
    replace_private(site.elsewhere, "".join(lines).encode())


def open_existing(site: Site) -> Store:
    """The site's store as it is, sealed. Problem where there is none."""
    found = read(site)
    if found is None:
        return sqlite.open_existing(site.store)
    from . import etcd  # brings HTTP and TLS, which take a while: not for every site

    place, id = found
    return etcd.open_existing(place, id, site.store.with_suffix(".lock"))


def name(site: Site) -> str:
    """For sentences."""
    found = read(site)
    return str(site.store) if found is None else found[0].url


def place_of(url: str, ca: Path | None, cert: Path | None, key: Path | None) -> Place:
    """As typed. Problem where that is none."""
    files = ["" if path is None else str(path.absolute()) for path in (ca, cert, key)]
    place = Place(url.rstrip("/"), *files)
    place.check()
    return place
