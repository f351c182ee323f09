"""The paper's tables, and others like them: ``tools/reproduce.py``.

command.py reads the command line. grid.py says which runs a table of tables.yml has, run.py trains
those that have not finished, and aggregate.py makes Markdown and CSV of what they leave behind.
"""
