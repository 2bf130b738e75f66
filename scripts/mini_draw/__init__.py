"""What ``train_mini_generator.py`` is made of."""
