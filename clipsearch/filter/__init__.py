"""Room 6: a ``--where`` expression → row ids; a SELECT over the metadata → a table.

There is no grammar of our own: both are DuckDB's SQL. What is new here is what is *not* let through.

1. *Parse, then walk.* DuckDB gives its own parse tree as JSON. ``expression.py`` lets a filter pass only where every
   node of the tree is on a short list, ``statement.py`` does so for one SELECT. What is unknown is refused, not what
   is known to be bad, and the very text that was checked is the text that runs.
2. *A room without doors.* It runs in an in-memory DuckDB without file, network, extension or setting access
   (``connection.py``), for a limited time, on tables that the caller hands over.

So a filter that comes from a stranger can cost some seconds of two cores, and nothing else.

    mask = allowed_ids("taken >= '2024-01-01' AND camera LIKE 'Canon%'", columns, lambda: table)
"""
