"""Define trunks: GPT-2's blocks, language models of `transformers`, and one trunk for several tasks."""
