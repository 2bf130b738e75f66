"""A vision-language model with random weights, as transformers saves one: small enough to be made for a test."""

from pathlib import Path

PLAIN = (
    "a",
    "dog",
    "cat",
    "red",
    "green",
    "blue",
    "picture",
    "of",
    "the",
    "in",
    "on",
    "Describe",
    "this",
    "one",
    "?",
    ".",
)
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *PLAIN]


def save(folder: Path) -> Path:
    """Write the model, its tokenizer and its picture processor into a folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    plain = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        pictures, tokenizer, patch_size=16, vision_feature_select_strategy="default", num_additional_image_tokens=1
    ).save_pretrained(folder)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=WORDS.index("<image>"))
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return folder


# SmolVLM's own chat template.
CHAT = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
MARKS = ["<|im_start|>", "<pad>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]
SPLITS = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


def save_smolvlm(folder: Path, kind: str = "idefics3") -> Path:
    """Write a model as SmolVLM-256M is one (``idefics3``), or SmolVLM2 (``smolvlm``): every file but the training."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    plain = Tokenizer(models.BPE(letters, []))  # every byte is a token: whatever is asked can be written
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<pad>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*MARKS[3:], *SPLITS]})
    at = dict(zip(MARKS, tokenizer.convert_tokens_to_ids(MARKS), strict=True))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = transformers.LlamaConfig(
        **sizes,
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=4096,
        pad_token_id=at["<pad>"],
        bos_token_id=at["<|im_start|>"],
        eos_token_id=at["<end_of_utterance>"],
    )
    name = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[kind]
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision,
        text_config=text,
        scale_factor=2,
        image_token_id=at["<image>"],
        pad_token_id=at["<pad>"],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, f"{name}ForConditionalGeneration")(config).save_pretrained(folder)
    pictures = getattr(transformers, f"{name}ImageProcessor")(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    parts = [pictures, tokenizer]
    if kind == "smolvlm":
        sampling = {"fps": 1, "max_frames": 4, "video_size": {"longest_edge": 32}}
        parts.append(
            transformers.SmolVLMVideoProcessor(
                size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, video_sampling=sampling
            )
        )
    processor = getattr(transformers, f"{name}Processor")(*parts, image_seq_len=4, chat_template=CHAT)
    processor.save_pretrained(folder)
    return folder
