"""Channels: scenarios, moving users, multipath, CSI models, and the channel sources of other tools."""
