"""The audit log of a site: who did what, in a file of lines that hang together.

chain.py      the lines, and whether they are whole; no file, no clock
journal.py    the files: appended, synced, cut where a kill left half a line, begun anew when long
quota.py      how much of it strangers may fill
recorder.py   what of the key server's events and of commands is entered, and by whom
rows.py       what the store knows of it; naming.py: a log that gets another name
reader.py     what `covey audit` looks at, beside a running server or without one
"""
