"""What the cache of the product list costs: `python -m bench.cache_costs` writes docs/cache-costs.md."""
