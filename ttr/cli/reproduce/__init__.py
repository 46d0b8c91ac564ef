"""``ttr reproduce``: published studies again, their numbers beside measured ones, a command a study.

The published numbers are data (``published_results.json``), the experiments are in ``ttr/studies/reproduce``.
Published and measured never share a column, and what cannot be measured keeps its row and says why.
"""
