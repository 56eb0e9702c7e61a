"""A file of rows, asked of a server: what is read, asked and written. Knows no command line."""
