import os

freeze(os.environ["RIG"], opt=3)  # noqa: F821  MicroPython's build hands it over
