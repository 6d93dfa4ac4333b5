"""Commands for the person with the board on the desk.

cli         `covey doctor`, `covey bench`, `covey attack`: their options
doctor      what `covey doctor` looks at, for which request (see ../doctor/)
attack      `covey attack`: whom it may aim at, what it prints. raid: what the attacker of
            `make run` (../demo/) does to a group on the network; knock: to its key server
            (`covey bench` is ../bench/onboard.py)
"""
