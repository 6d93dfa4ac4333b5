"""The file system of an emulated board: files of the machine that runs QEMU, read only; what is
written or removed here lies in memory. Executed before the tests: mounts itself as /.
"""

import io
import sys

import vfs

import host

_DIRECTORY, _FILE = 0x4000, 0x8000
_ENOENT, _EEXIST, _ENOTDIR, _EISDIR = 2, 17, 20, 21


class Written(io.IOBase):
    """A file that is being written; what it holds is there once it is closed."""

    def __init__(self, system, path, begun):
        self._system, self._path, self._octets = system, path, bytearray(begun)

    def write(self, data):
        self._octets.extend(data.encode() if isinstance(data, str) else data)
        return len(data)

    def flush(self):
        self._system.files[self._path] = bytes(self._octets)

    def close(self):
        self.flush()

    def ioctl(self, request, argument):
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Files:
    def __init__(self):
        self.files = {}  # path: octets, False for a directory, None where it is removed

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def chdir(self, path):
        pass

    def getcwd(self):
        return "/"

    def _found(self, path):
        if path in self.files:
            return self.files[path]
        found = host.read(path)
        if found == b"" and host.read(path + "/.") is not None:
            return False
        return found

    def _there(self, path):
        found = self._found(path)
        if found is None:
            raise OSError(_ENOENT)
        return found

    def stat(self, path):
        found = self._there(_whole(path))
        if found is False:
            return (_DIRECTORY,) + (0,) * 9
        return (_FILE, 0, 0, 0, 0, 0, len(found), 0, 0, 0)

    def statvfs(self, path):
        return (4096, 4096, 1 << 20, 1 << 20, 1 << 20, 0, 0, 0, 0, 255)

    def open(self, path, mode):
        path = _whole(path)
        if mode[0] in "wa":
            if self._there(path.rpartition("/")[0] or "/") is not False:
                raise OSError(_ENOTDIR)
            if self._found(path) is False:
                raise OSError(_EISDIR)
            written = Written(self, path, mode[0] == "a" and self._found(path) or b"")
            written.flush()
            return written
        found = self._there(path)
        if found is False:
            raise OSError(_EISDIR)
        return io.BytesIO(found) if "b" in mode else io.StringIO(str(found, "utf-8"))

    def mkdir(self, path):
        if self._found(_whole(path)) is not None:
            raise OSError(_EEXIST)
        self.files[_whole(path)] = False

    def remove(self, path):
        if self._there(_whole(path)) is False:
            raise OSError(_EISDIR)
        self.files[_whole(path)] = None

    def rmdir(self, path):
        if self._there(_whole(path)) is not False:
            raise OSError(_ENOTDIR)
        self.files[_whole(path)] = None

    def rename(self, old, new):
        self.files[_whole(new)] = self._there(_whole(old))
        self.files[_whole(old)] = None

    def ilistdir(self, path):
        """What was made here alone: the other machine can't be asked."""
        home = _whole(path).rstrip("/") + "/"
        if self._there(_whole(path)) is not False:
            raise OSError(_ENOTDIR)
        for name, found in self.files.items():
            if name.startswith(home) and "/" not in name[len(home) :] and found is not None:
                yield name[len(home) :], _DIRECTORY if found is False else _FILE, 0


def _whole(path):
    return path if path.startswith("/") else "/" + path


vfs.mount(Files(), "/")
sys.path[:] = []
