"""Writes certificates.json: certificates that OpenSSL's command makes, for who has to judge them.

Keys and signatures are drawn anew each time: `python tests/recorded/certificates.py`.
"""

import base64
import json
import pathlib
import subprocess
import tempfile

DAYS = "7300"
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
LEAF = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
NAMED = LEAF + "subjectAltName=DNS:gcks.example\n"
# name: (issuer, its own if it signs itself; extensions)
WANTED = {
    "ca": ("ca", CA),
    "ca_flat": ("ca_flat", CA.replace("TRUE", "TRUE,pathlen:0")),
    "other_ca": ("other_ca", CA),
    "middle": ("ca", CA.replace("TRUE", "TRUE,pathlen:0")),
    "middle_flat": ("ca_flat", CA),
    "deeper": ("middle", CA),
    "server": ("ca", NAMED + "extendedKeyUsage=serverAuth\n"),
    "server_plain": ("ca", "subjectAltName=DNS:other.example,DNS:GCKS.example,IP:192.0.2.1\n"),
    "server_ike": ("ca", NAMED + "extendedKeyUsage=1.3.6.1.5.5.7.3.17\n"),
    "server_below": ("middle", NAMED + "extendedKeyUsage=serverAuth\n"),
    "server_flat": ("middle_flat", NAMED),
    "server_deep": ("deeper", NAMED),
    "server_of_leaf": ("server", NAMED),
    "server_other": ("other_ca", NAMED),
    "no_name": ("ca", LEAF),
    "other_name": ("ca", LEAF + "subjectAltName=DNS:gcks.example.org,email:gcks.example\n"),
    "member": ("ca", LEAF + "subjectAltName=DNS:press-7\n"),
    "client": ("ca", NAMED + "extendedKeyUsage=clientAuth\n"),
    "no_signer": ("ca", NAMED.replace("digitalSignature", "keyAgreement")),
    "server_ca": ("ca", CA + "subjectAltName=DNS:gcks.example\n"),
    "constrained": ("ca", NAMED + "nameConstraints=permitted;DNS:example\n"),
    "critical": ("ca", NAMED + "1.3.6.1.4.1.55555.1=critical,ASN1:NULL\n"),
    "uncritical": ("ca", NAMED + "1.3.6.1.4.1.55555.1=ASN1:NULL\n"),
}


def run(*arguments, text=None):
    done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, check=True)
    return done.stdout


def made(folder):
    for name, (issuer, extensions) in WANTED.items():
        key, request, cert, ext = (
            str(folder / f"{name}.{e}") for e in ("key", "csr", "crt", "ext")
        )
        run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        run("req", "-new", "-key", key, "-subj", f"/O=Covey tests/CN={name}", "-out", request)
        pathlib.Path(ext).write_text(extensions)
        by = ["-signkey", key]
        if issuer != name:
            by = ["-CA", str(folder / f"{issuer}.crt"), "-CAkey", str(folder / f"{issuer}.key")]
        how = ["-sha256", "-days", DAYS, "-extfile", ext, "-set_serial", str(1000 + len(name))]
        run("x509", "-req", "-in", request, *by, *how, "-out", cert)
        yield name, der(pathlib.Path(cert).read_text()).hex()


def der(pem):
    return base64.b64decode("".join(pem.split("-----")[2].split()))


def written(folder):
    """Files as a person has them: PKCS #8 and RFC 5915, PEM and DER, one with text around it."""
    key = str(folder / "member.key")
    old = run("ec", "-in", key)
    return {
        "pkcs8_pem": pathlib.Path(key).read_bytes().hex(),
        "pkcs8_der": run("pkey", "-in", key, "-outform", "DER").hex(),
        "sec1_pem": run("ecparam", "-name", "prime256v1").hex() + old.hex(),
        "sec1_der": run("ec", "-in", key, "-outform", "DER").hex(),
        "encrypted_pem": run("pkey", "-in", key, "-aes256", "-passout", "pass:x").hex(),
        "text_pem": run("x509", "-in", str(folder / "member.crt"), "-text").hex(),
    }


with tempfile.TemporaryDirectory() as name:
    home = pathlib.Path(name)
    certificates = dict(made(home))
    keys = {}
    for one in ("server", "server_below", "member"):
        private = run("ec", "-in", str(home / f"{one}.key"), "-outform", "DER")
        keys[one] = private[7:39].hex()
    found = {"certificates": certificates, "keys": keys, "files": written(home)}
target = pathlib.Path(__file__).with_name("certificates.json")
target.write_text(json.dumps(found, indent=1) + "\n")
