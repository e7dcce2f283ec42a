"""Measures usual ways of caching a list in Django, beside the store's own: `make bench`."""
