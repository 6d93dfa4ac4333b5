"""A Linux kernel with the same SA opens our multicast ESP, and we open what it sends.

The checks are in tests/kernel_esp.py, which runs wherever there is Python and root. Where this
kernel has no AES-GCM for ESP, another one can be tried in a virtual machine: COVEY_TEST_KERNEL
names the directory, see tests/kernel_vm.py.
"""

import os
import sys

import pytest

import kernel_esp
import kernel_vm
from processes import ROOT, run

OTHER = os.environ.get("COVEY_TEST_KERNEL")


def all_hold(lines):
    assert len(lines) == 11 and all(line.startswith("ok ") for line in lines), lines


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux kernel's IPsec is asked")
def test_a_kernel_and_our_member_in_one_group():
    done = run(ROOT / "tests" / "kernel_esp.py", timeout=300)
    if done.returncode == kernel_esp.SKIP:
        pytest.skip(done.stdout.removeprefix("SKIP ").strip())
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    all_hold(done.stdout.splitlines())


@pytest.mark.skipif(not OTHER, reason="COVEY_TEST_KERNEL names no kernel to be tried")
def test_another_kernel_and_our_member_in_one_group():
    assert kernel_vm.missing() is None
    _, status, lines = kernel_vm.run(OTHER)
    assert status == 0, lines
    all_hold(lines)
