"""What a member is to its group, in words: the one list of them, for status, `why` and --json.

How it says of itself that it is stands in covey.report.STATES.
"""

# By what the key server knows
MEMBER = "member"  # it was given keys of this era, and has not said that it goes
WAITING = "waiting"  # it has asked, and is to be given keys under which nothing was sent yet
EXCLUDED = "excluded"  # it had keys, which are over, and has not come back
LEFT = "left"  # it said that it goes
NEVER = "never"  # it may register, and never did, or lost a right there since
REMOVED = "removed"  # it may register no more
STATES = (MEMBER, WAITING, EXCLUDED, LEFT, NEVER, REMOVED)

# By what members with keys report
CURRENT = "current"  # it has the newest keys
BEHIND = "behind"  # it has older ones
SILENT = "silent"  # it hears nothing from its key server, and says so
UNKNOWN = "unknown"  # it does not report, or not any more
LAGS = (CURRENT, BEHIND, SILENT, UNKNOWN)
