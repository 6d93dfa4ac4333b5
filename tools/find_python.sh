#!/bin/sh
# Print the path of a Python fit for Covey: $PYTHON if set, else the newest on PATH.
# Each one is asked, not only looked for: version managers put names on PATH that do not run.

ask='import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)'

for name in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if "$name" -I -c "$ask" 2>/dev/null; then
        exec "$name" -I -c 'import sys; print(sys.executable)'
    fi
done

if [ -n "$PYTHON" ]; then
    echo "setup: PYTHON=$PYTHON is not a Python of version 3.11 or newer." >&2
else
    echo "setup: no Python of version 3.11 or newer is on PATH; install one or name it with PYTHON=." >&2
fi
exit 1
