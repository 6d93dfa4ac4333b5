"""`neopixel` on a desktop: whether any LED of a strip is lit goes to `pins` (see desk)."""


class NeoPixel:
    def __init__(self, pin, n):
        self._pin = pin
        self._colours = [(0, 0, 0)] * n

    def __setitem__(self, i, colour):
        self._colours[i] = colour

    def __getitem__(self, i):
        return self._colours[i]

    def write(self):
        self._pin.value(any([any(colour) for colour in self._colours]))
