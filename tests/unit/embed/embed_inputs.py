"""Inputs that several tests share."""

# Noise pictures (width, height): portrait, landscape, strips, smaller and larger than any input.
SIZES = [(64, 64), (70, 50), (33, 300), (300, 33), (20, 20), (7, 100), (161, 159), (1, 3), (640, 481)]
TEXTS = ["a red dog", "two children play in the snow with a ball " * 9, "", "日本 cat", "The Man, on a BEACH!"]
