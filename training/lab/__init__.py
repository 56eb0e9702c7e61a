"""The lab: methods, rates and layers compared within a time, the best of them chosen.

`search.py` is read first; `halving.py` decides what is tried and what goes on, and knows no tensors.
"""
