"""How results are shown: tables, figures, comparisons and the report as text, Markdown, LaTeX, HTML, JSON.

In: a run directory and what `analysis` found. Out: files and text.
Not its business: computing a statistic.
"""
