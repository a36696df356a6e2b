"""The miniature families: base models small enough for a laptop, trained on pictures drawn by code."""
