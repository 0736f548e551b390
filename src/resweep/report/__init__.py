"""What a sweep showed: load its runs, compare settings over seeds, write tables, plots and one HTML page.

The modules, in the order in which data passes through them: ``load`` (files to records), ``stats`` (means, intervals,
paired differences), ``table`` (settings ranked by validation), ``plots`` (inline SVG), ``html`` (the page) and
``compare`` (the command). Nothing in here imports torch or Lightning; pandas and matplotlib are imported on first use.
"""
