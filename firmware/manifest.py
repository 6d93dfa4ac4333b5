"""Freezes Covey into a MicroPython of your own: its code runs from flash, not from RAM.

    make -C ports/esp32 BOARD=ESP32_GENERIC_C3 FROZEN_MANIFEST=.../firmware/manifest.py

boot.py, main.py and what is a member's own stay in the board's file system. RP2040: see
manifest_rp2.py, which includes this one with other options.
"""

import os

options.defaults(port="$(PORT_DIR)/boards/manifest.py", small=False)

include(options.port)

# The GHASH without multiplication tables of 32-bit boards is for those that ARMv6-M can't have.
unfit = {"mpy_ghash.py", "mpy_ghash_ct.py"} if options.small else {"mpy_ghash_small.py"}

for package_path, base in (("covey", "../lib"), ("onboard", ".")):
    files = []
    for folder, _, names in os.walk(os.path.join(base, package_path)):
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("cpy") and name not in unfit:
                path = os.path.join(folder, name)
                files.append(os.path.relpath(path, os.path.join(base, package_path)))
    package(package_path, files=sorted(files), base_path=base, opt=3)
