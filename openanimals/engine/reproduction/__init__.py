"""The tables of the paper, and others like them, as grids of runs: ``tools/reproduce.py``.

request.py reads the command line, grid.py says what is trained and budget.py for how long.
reproduce.py goes through a grid: runner.py trains the cells (leash.py ends them with the tool),
records.py remembers them (provenance.py: what made them), progress.py says how far it is.
groups.py, tables.py (Markdown) and sheets.py (CSV) show them beside published.py.
"""
