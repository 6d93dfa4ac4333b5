"""covey.json's fields of all keys but a pre-shared one: certificates, raw public keys, a PPK.

Loaded when covey.json has more in it than a plain member's needs, or lacks its psk_file.
"""

from covey.port import const

_PPK_LEAST = const(32)  # RFC 8784 section 4: 256 bits of entropy


def fill(config, f, psk_file, psk):
    """What is left of a fields._Fields, to a config.Config: whether its key is a pre-shared one.

    ConfigError for what doesn't go together, and for what is no field at all.
    """
    ca_file = f.text("ca_file", None)
    server_key_file = f.text("server_key_file", None)
    by_psk = psk is not None or (ca_file or server_key_file) is None
    if by_psk and psk is None and psk_file is None:
        f.text("psk_file")  # is missing
    key_file = f.text("key_file", *_if_absent(by_psk))
    certificate_file = f.text("certificate_file", *_if_absent(by_psk or not ca_file))
    if ca_file and not by_psk and config.idr is None:
        f.say("idr", " must be there: by that name the key server has its certificate.")
    for name, file in (("ca_file", ca_file), ("server_key_file", server_key_file)):
        if psk_file is not None and file is not None:
            f.say("psk_file", " must be left out where %s is given." % name)
    if by_psk and key_file:
        f.say("key_file", " must be beside a ca_file or a server_key_file.")
    if certificate_file and not ca_file:
        f.say("certificate_file", " must be beside a ca_file.")
    if ca_file and server_key_file:
        f.say("server_key_file", " must be left out where ca_file is given.")
    ppk_file = f.text("ppk_file", None)
    ppk = f.identity("ppk_id", None), f.flag("ppk_optional", False)
    if ppk_file is None and ppk != (None, False):
        f.say("ppk_file", " must be there, too, for ppk_id and ppk_optional.")
    f.done()
    if not by_psk:
        config.credentials = _credentials(f, key_file, certificate_file, ca_file, server_key_file)
    if ppk_file is not None:
        from covey.ppk import Ppk

        key = f.read_key("ppk_file", ppk_file, _PPK_LEAST)
        config.ppk = Ppk(key, ppk[0] or config.idi, ppk[1])
    return by_psk


def _if_absent(may_be):
    """The default of a field that may be absent, as what else _Fields.text() takes."""
    return (None,) if may_be else ()


def _credentials(f, key_file, certificate_file, ca_file, server_key_file):
    if ca_file:
        from covey.certfiles import read

        return read(f.beside(key_file), f.beside(certificate_file), f.beside(ca_file))
    from covey.keyfiles import raw_key

    return raw_key(f.beside(key_file), f.beside(server_key_file))
