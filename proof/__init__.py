"""proof: where file meets network. Bytes and a backbone go in, an adapter that may be served comes out.

`candidate` reads and builds, `replay` says what to run and judges what came out, `check` does all of it at
once, `fresh` does that in a process of its own. Importing this package alone imports nothing heavy.
"""
