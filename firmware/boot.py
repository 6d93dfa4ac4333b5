"""Runs before main.py. Nothing here may fail, take long or draw a secret."""

import gc
import sys

# What was used for a moment is let go soon, so that the heap stays in one piece while code is
# loaded and keys are made: a member lives with a quarter less of it. Who receives hundreds of
# packets a second takes a larger number once it is a member.
if hasattr(gc, "threshold"):  # on a desktop's CPython there is none
    gc.threshold(4096)

try:
    from onboard import install

    install.settle()  # an install that was cut short is completed, or undone
    del install, sys.modules["onboard.install"], sys.modules["onboard"]  # main.py needs its memory
except ImportError:  # a board that was never installed over a cable
    pass
except (
    Exception
) as error:  # flash that fails. If main.py is there, it may run: see onboard.install
    print("covey: install", error)

try:
    import network

    # The radio takes its memory now: later the ESP32's heap has grown into what there is.
    network.WLAN(network.WLAN.IF_STA).active(True)
except Exception as error:  # main.py tries again
    print("covey: wifi", error)
