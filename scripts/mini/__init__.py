"""The pieces of ``train_mini.py``: data, towers, model, training, export."""
