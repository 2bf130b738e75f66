"""Where pictures are decoded and embedded: in this process and its children, or over a cluster.

An *engine* is given the files that are to be embedded and gives back rows or skips, in the same order; it never sees
the collection. ``ingest`` alone decides what is new and writes, so every engine makes the same shards and the same
manifest, and a run that was stopped under one engine goes on under another. The contract is ``base.Engine``.

    engine = ENGINES.load("local")(encoder, settings)
"""

from clipsearch.registry import Registry

ENGINES = Registry(
    "engine",
    {
        "local": "clipsearch.flows.engines.local:open_local",
        "ray": "clipsearch.flows.engines.over_ray:open_ray",
    },
)
