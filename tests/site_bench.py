"""A site on free ports with the real processes on it, for the many-process tests."""

import io
import itertools
import json
import os
import signal
import socket
from contextlib import redirect_stderr, redirect_stdout, suppress

import pytest

import leaks
from covey_host import cli
from covey_host.errors import Problem
from covey_host.site import Site
from covey_host.vault.opening import open_store
from nonces import Witness
from processes import ENVIRONMENT, PATIENCE_S, start

# One for each run of the tests: raw sockets have no ports, and hear what other runs send.
GROUP = f"239.192.{64 + os.getpid() % 64}.{1 + os.getpid() // 64 % 254}"

_numbers = itertools.count(os.getpid() * 97)


def free_port():
    """Another one each time, below those that a system gives to whoever asks for any: nobody gets
    it before it is used.
    """
    for number in _numbers:
        port = 20000 + number % 12000
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port


class Bench:
    """A site of its own on free ports, and the processes that a test starts on it."""

    def __init__(self, root):
        self.root = root
        self.port, self.carrier_port = free_port(), free_port()
        self.environment = {**ENVIRONMENT, "COVEY_SITE": str(root), "PYTHONFAULTHANDLER": "1"}
        self.said = ""  # all that any process has written anywhere
        self._running = []
        self.witness = Witness(GROUP, self.port, self.carrier_port)
        cli.commands.init(root, None)
        self.edit('listen = ["0.0.0.0:4500"]', f'listen = ["127.0.0.1:{self.port}"]')
        with open(root / "covey.toml", "a") as file:
            file.write(
                f'\n[group.line1]\naddress = "{GROUP}"\nport = 2222\n'
                f'carrier_port = {self.carrier_port}\natd = "0s"\ndtd = "1s"\n'
                'repeat_spacing = "100ms"\nrejoin_spread = "0s"\nfresh_join = false\n'
            )

    def store(self):
        """The site's, opened beside whoever runs."""
        return open_store(Site(self.root))

    def edit(self, old, new):
        text = (self.root / "covey.toml").read_text()
        assert old in text
        (self.root / "covey.toml").write_text(text.replace(old, new))

    def covey(self, *arguments, status=0):
        """One command to its end, in this process; its stdout, or stderr where it is to fail."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main([*map(str, arguments), "--site", str(self.root)])
        self.said += out.getvalue() + err.getvalue()
        assert ended.value.code == status, (arguments, out.getvalue(), err.getvalue())
        return err.getvalue() if status else out.getvalue()

    def launch(self, *arguments, **options):
        child = start("-m", "covey_host", *arguments, env=self.environment, **options)
        self._running.append(child)
        return child

    def serve(self, *arguments):
        """A running server: it has said that it serves."""
        command = ("-m", "covey_host", "serve", "--json", "--interface", "127.0.0.1")
        return self.watch(start(*command, *arguments, env=self.environment))

    def watch(self, child):
        self._running.append(child)
        child.heard = []
        while not child.heard or child.heard[-1]["event"] != "serving":
            line = child.stderr.readline()
            assert line, f"it ended with {child.wait()}: {child.heard}"
            self.said += line
            assert line.startswith("{"), line + child.stderr.read()
            child.heard.append(json.loads(line))
        return child

    def end(self, child, number=signal.SIGTERM):
        """End a process by a signal: (exit status, stdout, stderr)."""
        child.send_signal(number)
        out, err = child.communicate(timeout=PATIENCE_S)
        self._running.remove(child)
        self.said += out + err
        return child.returncode, out, err

    def events(self, child, number=signal.SIGTERM):
        """End a server: all that it logged."""
        status, _, err = self.end(child, number)
        if number == signal.SIGTERM:
            assert status == 0, err
        return child.heard + [json.loads(line) for line in err.splitlines()]

    def status(self):
        return json.loads(self.covey("status", "--json"))

    def epoch(self):
        return self.status()["groups"]["line1"]["epoch"]

    def member(self, name, *arguments):
        server = ("--server", f"127.0.0.1:{self.port}", "--interface", "127.0.0.1")
        return self.covey("member", "add", name, "--group", "line1", *server, *arguments)

    def close(self):
        for child in self._running:
            if child.returncode is not None:
                continue
            child.kill()
            out, err = child.communicate()
            self.said += (out or "") + (err or "")  # None where nobody was to hear it
        self.witness.close()
        self._note_secrets()
        for text in (self.said, *(f.read_text() for f in self.root.glob("*.log"))):
            leaks.look(text)
        assert "Traceback" not in self.said

    def _note_secrets(self):
        """Those that the site's files hold: whoever ran here had them."""
        files = ("members/*/psk", "members/*/ppk", "site.key")
        for file in (file for pattern in files for file in self.root.glob(pattern)):
            leaks.note(bytes.fromhex(file.read_text().split()[0]))
        with suppress(Problem):  # some tests spoil the store
            store = self.store()
            for key, value, _ in store.scan(""):
                leaks.note_stored(key, value)
            store.close()
