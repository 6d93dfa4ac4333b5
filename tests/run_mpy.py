"""Run the tests of one file on MicroPython: `micropython run_mpy.py PATH/test_x.py [NAME ...]`.

Each `test_*` function is called in the order of its line. For each one a line of JSON is printed,
`{"test": name, "ok": true|false, "error": traceback, "seconds": s}`; a file that can't be imported
gives one such line with an empty name. Ends with status 1 if a test failed or none was found.
"""

import gc
import io
import json
import sys
import time

# From below, since each nested import takes 4 KB of the unix port's C stack: 40 KB on x86.
for name in ("covey.port", "covey.ike"):
    __import__(name)


def traceback_of(error):
    text = io.StringIO()
    sys.print_exception(error, text)
    return text.getvalue()


def run(name, function):
    """Call one test and print its line; whether it passed."""
    gc.collect()
    began = time.ticks_ms()
    error = None
    try:
        if function() is not None:
            error = name + " returned something: is it a generator that never ran?"
    except Exception as reason:
        error = traceback_of(reason)
    seconds = time.ticks_diff(time.ticks_ms(), began) / 1000
    report(name, error, seconds)
    return error is None


def report(name, error, seconds):
    line = {"test": name, "ok": error is None, "error": error, "seconds": seconds}
    print("\n" + json.dumps(line))  # at the start of a line, whatever the test has printed


def tests_of(path):
    """(name, function) of every test in the order in which the file defines them."""
    folder, _, name = path.rpartition("/")
    sys.path.insert(0, folder or ".")
    names = []
    with open(path) as file:  # dict order is not kept on MicroPython
        for line in file:
            if line.startswith("def test_"):
                names.append(line[4 : line.index("(")])
    module = __import__(name[:-3])  # now, since what it reckons may leave the heap in pieces
    return [(name, getattr(module, name)) for name in names]


def main(path, wanted):
    try:
        tests = tests_of(path)
    except Exception as error:
        report("", traceback_of(error), 0)
        return 1
    results = [run(name, test) for name, test in tests if not wanted or name in wanted]
    return 0 if results and all(results) else 1


sys.exit(main(sys.argv[1], sys.argv[2:]))
