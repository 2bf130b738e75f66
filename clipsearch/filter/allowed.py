"""What may stand in a filter and in a SELECT: functions and types, by name.

Neither list holds a function that reads a file, a setting or the environment, that makes rows or long texts out of
nothing (``range``, ``repeat``, ``lpad``), or that takes a lambda.
"""

LIKE = {"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE", "~~~": "GLOB", "^@": "^@"}
ARITHMETIC = frozenset({"+", "-", "*", "/", "//", "%", "||"})

CONDITIONS = frozenset(
    {*LIKE, "like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape"}
    | {"regexp_matches", "regexp_full_match", "contains", "starts_with", "ends_with", "prefix", "suffix"}
    | {"list_contains", "list_has", "array_contains", "list_has_any", "list_has_all"}
)
"""Functions that answer true or false."""

BOOLEAN_COLUMNS = frozenset({"generated"})
"""Columns that are conditions as they stand."""

_TIME = {"year", "month", "day", "hour", "minute", "dayofweek", "isodow", "dayofyear", "week", "quarter"}
_TIME |= {"date_part", "date_trunc", "today", "to_years", "to_months", "to_weeks", "to_days", "to_hours", "to_minutes"}
_TEXT = {"lower", "upper", "length", "trim", "concat", "substring", "len", "list_value", "array_to_string"}
_NUMBER = {"abs", "round", "floor", "ceil", "trunc", "greatest", "least"}

FILTER_FUNCTIONS = frozenset(CONDITIONS | ARITHMETIC | _TIME | _TEXT | _NUMBER)
FILTER_TYPES = frozenset(
    {"DATE", "TIMESTAMP", "DATETIME", "TIME", "INTERVAL", "BOOLEAN", "BOOL", "VARCHAR", "TEXT", "STRING"}
    | {"TINYINT", "SMALLINT", "INTEGER", "INT", "BIGINT", "HUGEINT", "FLOAT", "REAL", "DOUBLE", "DECIMAL"}
)
NOW = frozenset({"current_date"})
"""Words that stand without brackets and name no column."""

FILTER_HELP = (
    "comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, ILIKE, IS NULL, CAST, + - * / // % ||, "
    "year month day hour date_part date_trunc current_date, lower upper length trim contains starts_with ends_with "
    "regexp_matches, 'dog' IN tags, list_has_any list_has_all len, abs round floor ceil greatest least coalesce."
)
"""What is allowed, for people; the rare members of the lists above are left out."""

_AGGREGATES = """
    any_value arg_max arg_min max_by min_by avg mean bool_and bool_or count count_star count_if sum min max first last
    median mode quantile quantile_cont quantile_disc approx_count_distinct approx_quantile stddev stddev_samp stddev_pop
    variance var_samp var_pop corr covar_samp covar_pop regr_slope regr_intercept skewness kurtosis entropy product
    string_agg group_concat listagg list array_agg histogram
"""
_WINDOW = "row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value"
_SCALAR = """
    if ifnull nullif coalesce typeof hash md5 sha256
    sqrt cbrt exp ln log log2 log10 pow power sign mod pi radians degrees sin cos tan asin acos atan atan2 ceiling even
    isnan isinf isfinite bit_count random
    strlen reverse replace left right ltrim rtrim position instr strpos split_part string_split str_split
    regexp_replace regexp_extract regexp_extract_all ascii chr concat_ws strip_accents levenshtein damerau_levenshtein
    hamming jaccard jaro_winkler_similarity parse_filename parse_path parse_dirname hex
    second millisecond weekday weekofyear yearweek decade century era epoch epoch_ms dayname monthname last_day
    date_add date_sub date_diff datediff datesub age make_date make_timestamp strftime strptime try_strptime time_bucket
    now current_timestamp to_seconds to_timestamp
    list_value array_value len array_length list_contains list_position list_distinct list_sort list_sum list_avg
    list_min list_max unnest list_extract array_extract array_to_string struct_pack struct_extract row
    array_cosine_similarity array_cosine_distance array_inner_product array_distance array_dot_product
    list_cosine_similarity list_inner_product list_distance list_dot_product
"""
SQL_FUNCTIONS = FILTER_FUNCTIONS | frozenset(f"{_AGGREGATES} {_WINDOW} {_SCALAR}".split()) | {"**", "^", "&", "|", "@"}
SQL_HELP = (
    "one SELECT (WITH, JOIN, GROUP BY, ORDER BY, UNION, windows) over images, captions and search('words', k), "
    "with the usual scalar and aggregate functions."
)
