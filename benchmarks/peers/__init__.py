"""What a person would do instead, each in its own library's way: scikit-learn, SetFit, PEFT, AdapterHub.

Nothing of ours is imported here: the files also run in environments (`environments.py`) that have only those
libraries. `python -m benchmarks.peers NAME --train FILE --test FILE --backbone FOLDER` runs one of them.
"""
