"""Runs against each other: `pairing` of cases, `anchoring` against drift, `runs` and their `rows`, `gates`.

`facts` says what differs between the machines, `wording` puts things into words, `reports` writes a
comparison to disk.
"""
