"""Pictures of the shipped metrics, `figure(cells, style)` in a file named after the metric.

They are files of their own, since a report is drawn without torch, which every metric imports, and since scores are
computed again when the file of their metric changes: a colour should not cost that.
"""
