"""How a tower is executed; the table is ``RUNTIMES`` in ``clipsearch.embed``."""
