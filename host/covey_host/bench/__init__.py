"""`make bench`: what a packet, a key and a rekey cost, as ratios measured in the same run.

One file a subject: gcm, path, heap, publickey, gap (all on the board's interpreter), cpython,
keytree, peers, loopback, relay. Each has run(table, quick): it measures and enters rows. What they
have in common:

    results.py    the rows, the table on the screen, bench/results.json
    board.py      runs the scripts on 32-bit MicroPython and reads what they counted
    callgrind.py  a copy of that interpreter that counts its instructions
    onboard.py    `covey bench`: the same scripts on a board at a serial port
    plant.py      a site with a key server, for what needs a real group
    crowd.py      a store with as many members as wanted; curve.py draws what they cost

How to read the result stands in docs/bench.md. No figure here decides whether something is right.
"""
