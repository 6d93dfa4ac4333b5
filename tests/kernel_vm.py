"""Another Linux kernel for tests/kernel_esp.py: a virtual machine that shares this file system.

    python tests/kernel_vm.py DIRECTORY

DIRECTORY: a distribution's kernel package, unpacked (`dpkg -x linux-image-... DIRECTORY`), with
its modules. Wants qemu-system-x86_64 and a static busybox. The machine sees our files read-only,
runs the script with this Python, and is gone; half a minute without hardware virtualisation.
"""

import gzip
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().with_name("kernel_esp.py")
_TOOLS = ("sh", "mount", "modprobe", "chroot", "depmod", "poweroff")
# What the script needs, and what the machine itself does.
_WANTED = "virtio_pci 9pnet_virtio 9p xfrm_user esp4 gcm ctr seqiv echainiv ghash_generic veth"
_FOLDERS = ("crypto", "arch/x86/crypto", "lib/crypto", "net", "fs/9p", "fs/netfs", "fs/fscache")
_DRIVERS = ("drivers/virtio", "drivers/net")
_INIT = """\
#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
depmod
for module in {wanted}; do modprobe $module 2>/dev/null; done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose root /mnt
mount -t proc proc /mnt/proc
mount -t sysfs sys /mnt/sys
mount -t devtmpfs dev /mnt/dev
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
echo "BEGIN $(cat /proc/sys/kernel/osrelease)"
chroot /mnt {python} {script}
echo "END $?"
poweroff -f
"""


def missing():
    """What there is none of here, or None."""
    for program in ("qemu-system-x86_64", "busybox"):
        if shutil.which(program) is None:
            return program
    return None


def run(directory, timeout_s=600):
    """(release of the kernel, status of the script, its lines)."""
    (kernel,) = Path(directory).glob("boot/vmlinuz-*")
    with tempfile.NamedTemporaryFile(suffix=".gz") as initrd:
        initrd.write(gzip.compress(_archive(Path(directory)), 1))
        initrd.flush()
        command = ["qemu-system-x86_64", "-m", "1024", "-cpu", "max", "-accel", "tcg"]
        command += ["-nographic", "-no-reboot", "-nic", "none"]
        command += ["-kernel", kernel, "-initrd", initrd.name]
        command += ["-append", "console=ttyS0 quiet panic=1"]
        share = "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"
        done = subprocess.run(
            [*command, "-virtfs", share],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
    text = done.stdout.decode(errors="replace").replace("\r", "")
    said = re.search(r"BEGIN (\S+)\n(.*)^END (\d+)$", text, re.S | re.M)
    if said is None:
        raise RuntimeError("the machine did not do its work:\n" + text)
    return said[1], int(said[3]), said[2].splitlines()


def _archive(directory):
    """The first file system: busybox, the modules, and what to do (cpio, "newc")."""
    made = _Cpio()
    for name in ("bin", "dev", "proc", "mnt", "sbin", "lib", "lib/modules"):
        made.add(name, 0o40755)
    made.add("bin/busybox", 0o100755, Path(shutil.which("busybox")).read_bytes())
    for tool in (*_TOOLS, "cat"):
        made.add("bin/" + tool, 0o120777, b"busybox")
    made.add("sbin/modprobe", 0o120777, b"/bin/busybox")  # the kernel itself calls it there
    script = _INIT.format(wanted=_WANTED, python=sys.executable, script=SCRIPT)
    made.add("init", 0o100755, script.encode())
    (modules,) = Path(directory).glob("lib/modules/*")
    files = [path for path in modules.iterdir() if path.is_file()]
    for folder in (*_FOLDERS, *_DRIVERS):
        files += (modules / "kernel" / folder).rglob("*.ko")
    folders = {parent for path in files for parent in path.relative_to(directory).parents}
    for folder in sorted(folders - {Path("."), Path("lib"), Path("lib/modules")}):
        made.add(str(folder), 0o40755)
    for path in files:
        made.add(str(path.relative_to(directory)), 0o100644, path.read_bytes())
    return made.end()


class _Cpio:
    def __init__(self):
        self._out = io.BytesIO()
        self._number = 0

    def add(self, name, mode, data=b""):
        self._number += 1
        fields = [self._number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields))
        self._out.write(name.encode() + b"\0")
        self._fill()
        self._out.write(data)
        self._fill()

    def end(self):
        self.add("TRAILER!!!", 0)
        return self._out.getvalue()

    def _fill(self):
        self._out.write(bytes(-self._out.tell() % 4))


if __name__ == "__main__":
    release, status, said = run(sys.argv[1])
    print(release, *said, sep="\n")
    sys.exit(status)
