"""Helpers shared by channel sources: user arrays in ``.mat`` files, recorded drops, frequency responses."""
