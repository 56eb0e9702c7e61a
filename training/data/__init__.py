"""From files to checked examples: what the data is, how its rows are read, splits."""
