"""A store on several machines under mixed load for a long time, while things break at random."""
