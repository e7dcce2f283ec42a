"""A cache for Django that is never wrong and never falls over."""
