"""The tables of the paper, and others like them, as grids of runs: ``tools/reproduce.py``.

grid.py says what is trained, budget.py for how long, runner.py trains it, records.py remembers
each cell, tables.py shows them beside published.py.
"""
