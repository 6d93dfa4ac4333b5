"""Octets read as a program, from the front. Past their end everything is zero."""


class Program:
    def __init__(self, data):
        self._data = data
        self._off = 0

    @property
    def is_over(self):
        return self._off >= len(self._data)

    def u8(self):
        if self.is_over:
            return 0
        self._off += 1
        return self._data[self._off - 1]

    def u16(self):
        return self.u8() << 8 | self.u8()

    def u32(self):
        return self.u16() << 16 | self.u16()

    def pick(self, choices):
        return choices[self.u8() % len(choices)]

    def octets(self, most=255):
        """One octet says how many, `most` at most; as many as there are."""
        return self.take(min(self.u8(), most))

    def take(self, n):
        data = bytes(self._data[self._off : self._off + n])
        self._off += len(data)
        return data

    def rest(self):
        return self.take(len(self._data))
