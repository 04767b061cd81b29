"""Analysis of records: summaries, intervals, tests, comparisons, checks against a reference.

In: records. Out: data frames, verdicts and numbers; no torch.
Not its business: how results are drawn or printed.
"""
