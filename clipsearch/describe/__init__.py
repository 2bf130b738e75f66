"""Room: from a picture to words, with the two towers the other way round.

Three questions, asked with numpy alone on embeddings that are there already:

- *which labels fit?* ``labels.py`` turns labels into prompts, ``tagging.py`` gives each (picture, label) its evidence
  and says from which on a tag is given, so that a stated share of the given tags is right;
- *which of these answers fits?* ``statements.py`` turns question and choice into statements, ``answers.py`` ranks them
  and knows when none of them fits better than arbitrary words;
- *how would one say it?* ``compose.py`` makes a sentence of tags. ``vlm.py`` is the one that writes freely: a small
  vision-language model, an extra, the only module here that imports torch or transformers.

``labels.py`` reads the vocabulary that ships (``vocabulary.toml``), ``mentions.py`` finds labels in captions and
``xmp.py`` writes them as XMP.
"""
