"""The demo: a page to ask in, and what it shows."""
