"""Commands for the person with the board on the desk.

cli         `covey doctor`, `covey bench`, `covey attack`: their options
doctor      what `covey doctor` looks at, for which request (see ../doctor/)
attack      `covey attack`: the attacker of `make run` (../demo/) against a group on the network
            (`covey bench` is ../bench/onboard.py)
"""
