"""What commands about certificates do with their arguments: see commands.py."""

import time
from pathlib import Path
from typing import Any

from . import output
from . import site as sites
from .commands import certificate_files, perform, read_file
from .errors import MISUSE, Problem
from .site import check_name


def member_renew(
    option: Path | None, name: str, csr: Path | None, cert: Path | None, days: int | None
) -> None:
    check_name("member", name)
    wishes = {"csr": csr, "cert": cert, "days": days}
    request = {"do": "member renew", "member": name, **certificate_files(wishes)}
    answer = perform(sites.find(option), request)
    until = time.strftime("%Y-%m-%d", time.gmtime(answer["until"]))
    output.line(
        f"Wrote {answer['directory']}/cert.pem, which holds until {until}: bring it to the member."
        " Its old one holds until it ends, too."
    )


def site_ca(option: Path | None, as_json: bool, **wishes: Any) -> None:
    site = sites.find(option)
    request: dict[str, Any] = {"do": "site ca"}
    request |= {"new": wishes["new"], "new_key": wishes["new_key"]}
    for key in ("ca_cert", "ca_key", "cert", "crl"):
        if wishes[key] is not None:
            request[key] = read_file(wishes[key]).decode("latin-1")
    if "ca_key" in request and "ca_cert" not in request:
        raise Problem("--ca-key goes with --ca-cert: name both.", MISUSE)
    answer = perform(site, request)
    pem, csr = answer.pop("ca_pem", None), answer.pop("csr_pem", None)
    for path, text in ((wishes["export"], pem), (wishes["csr"], csr)):
        if path is not None:
            if text is None:
                raise Problem("The site has no CA: make one with --new.", MISUSE)
            sites.replace_private(path.absolute(), text.encode())
            output.line(f"Wrote {path}.")
    if as_json:
        output.emit({"event": "ca", **answer})
        return
    if wishes["new_key"]:
        output.line("The key server has another key: boards added with --auth key need new files.")
    if answer["ca"] is None:
        output.line("The site has no CA: only pre-shared keys can register.")
        return
    output.line(f"CA: {answer['ca']}, until {answer['until']}, SHA-256 {answer['sha256']}")
    output.line(f"Its key is {'here' if answer['issues'] else 'elsewhere'}.")
    server = answer["server_until"]
    output.line(
        f"The key server's certificate holds until {server}."
        if server
        else "The key server has no certificate: nobody can register by certificate."
    )
    output.line(f"Revoked: {answer['revoked']}.")
    if answer["evicted"]:
        output.line(f"Evicted: {', '.join(answer['evicted'])}.")
