"""Models whose posterior is known exactly, gaps and all, to hold an answer against."""
