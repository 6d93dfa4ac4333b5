"""manifest.py for the Pico W and other boards with an RP2040 (ARMv6-M).

make -C ports/rp2 BOARD=RPI_PICO_W FROZEN_MANIFEST=.../firmware/manifest_rp2.py
"""

include("manifest.py", port="$(BOARD_DIR)/manifest.py", small=True)
