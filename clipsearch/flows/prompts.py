"""Generic text queries, to measure recall with where a collection has no captions of its own."""

from itertools import islice, product

_WHAT = (
    "a dog", "a cat", "a child", "two people", "a crowd", "a car", "a bicycle", "a boat", "a train", "a house",
    "a church", "a bridge", "a tree", "flowers", "a mountain", "the sea", "food on a plate", "a cup of coffee",
    "a computer", "a book", "a red dress", "a bird", "a horse", "a street sign", "a baby",
)  # fmt: skip
_HOW = (
    "a photo of {}", "{} in the snow", "{} at night", "{} on the beach", "{} in a garden", "a close-up of {}",
    "a black and white picture of {}", "{} from far away",
)  # fmt: skip


def generic_prompts(n: int = 200) -> list[str]:
    """Return up to 200 sentences that people might search photos with, always the same."""
    return [how.format(what) for how, what in islice(product(_HOW, _WHAT), n)]
