"""Presentation of results: tables, figures, comparisons and the report as text, Markdown, LaTeX, HTML, JSON.

In: a run directory and the results of `analysis`. Out: files and text.
Not its business: computing a statistic.
"""
