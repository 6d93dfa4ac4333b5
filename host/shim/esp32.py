"""`esp32` on a desktop: NVS, as far as a board of ours might use it."""

import json

import desk

_NOT_FOUND = -0x1102  # ESP_ERR_NVS_NOT_FOUND, as MicroPython hands it on


class NVS:
    """Nothing is kept before commit()."""

    def __init__(self, namespace):
        self._namespace = namespace
        self._all = json.loads(desk.read("nvs") or b"{}")
        self._all.setdefault(namespace, {})

    def set_blob(self, key, value):
        self._all[self._namespace][key] = "".join(["%02x" % octet for octet in bytes(value)])

    def get_blob(self, key, buffer):
        """Its length, in buffer."""
        kept = self._all[self._namespace].get(key)
        if kept is None:
            raise OSError(_NOT_FOUND)
        octets = bytes([int(kept[i : i + 2], 16) for i in range(0, len(kept), 2)])
        buffer[: len(octets)] = octets
        return len(octets)

    def erase_key(self, key):
        if self._all[self._namespace].pop(key, None) is None:
            raise OSError(_NOT_FOUND)

    def commit(self):
        desk.write("nvs", json.dumps(self._all).encode())
