"""What a finished run tells: the outcome, cautions, a page for people."""
