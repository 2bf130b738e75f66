"""Room 7: is there anything in this collection that answers the query? Scores become a p-value and a verdict.

Nearest neighbours exist for every query, however absurd, and no fixed cosine tells an answer from the nearest of
nothing: the scale depends on the model, the query and the number of rows. So the question is put as a test:

    hub[d]       mean of the 5 largest scores of row d against generic queries
    evidence(q)  mean of the 5 largest (score(q, d) - s hub[d]) among the 100 nearest rows d, s of 0, 1/2, 1
    null         evidences of queries whose whole concept was left out of the collection: what "absent" looks like
    answerable   evidences of the same queries with nothing left out
    p(q)         (1 + #{null >= evidence}) / (n + 1)

If an absent query is exchangeable with those of the null, P(p <= a | absent) <= a, whatever the encoder and however
poor the score; a better score only buys power (s is chosen on other queries than those of the null). Likewise with the
answerable side and the lower tail. Hence:

    match         p <= 0.05, with 90 % confidence: a query with nothing to find gets it at most 5 % of the time
    none          not a match, and among the lowest 10 % of answerable queries: one that has an answer gets it <= 10 %
    weak          between the two
    uncalibrated  nobody can say: no calibration, too small, rows added since, or a kind of query that was not measured

Each kind of query (keyword, phrase, sentence, image) has a null of its own, since a threshold learnt on sentences is
wrong for keywords, and a calibration belongs to the rows it was made on, since the best of more rows is better. For
some of the rows (a filter) the same queries are asked again of those alone.

``bank`` holds the generic queries and tells kinds apart, ``scores`` makes evidence, ``concepts`` finds what to leave
out, ``calibration`` makes the nulls, ``verdict`` decides. All are functions on arrays; numpy only.
"""
