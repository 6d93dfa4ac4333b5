"""A Linux kernel with the same SA opens our multicast ESP, and we open what it sends.

The checks are in tests/kernel_esp.py, which runs wherever there is Python and root. Where this
kernel has no AES-GCM for ESP it can be run on another one, in a virtual machine that shares the
file system (`qemu-system-x86_64 -virtfs`, with a distribution's kernel and its modules).
"""

import sys

import pytest

import kernel_esp
from processes import ROOT, run


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux kernel's IPsec is asked")
def test_a_kernel_and_our_member_in_one_group():
    done = run(ROOT / "tests" / "kernel_esp.py", timeout=300)
    if done.returncode == kernel_esp.SKIP:
        pytest.skip(done.stdout.removeprefix("SKIP ").strip())
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert len(lines) == 11 and all(line.startswith("ok ") for line in lines), done.stdout
