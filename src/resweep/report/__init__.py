"""What a sweep showed: load its runs, compare settings over seeds, write tables, plots and one HTML page.

The modules, in the order in which data passes through them: ``load`` (files to records, with ``curves`` and
``run_files``), ``inference``, ``stats`` and ``pairs`` (means, intervals, paired differences, one family of verdicts),
``table`` (settings ranked by validation), ``selection``, ``budget``, ``anytime`` and ``times`` (what follows from a
ranking), ``words`` (the answer), ``plots`` (inline SVG), ``html`` (the page), ``results`` and ``frames`` (tables in
files). Of the command: ``compare``; ``across``, ``differences`` and ``two_runs`` (several sweeps), ``where`` and
``view`` (what is listed), ``cells``, ``layout``, ``terminal``, ``formats`` and ``advice`` (how it is shown). Nothing in
here imports torch or Lightning; pandas, scipy and matplotlib are imported on first use.
"""
