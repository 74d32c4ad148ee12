"""Small programs that run as they are: python -m examples.NAME."""
