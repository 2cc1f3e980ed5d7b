"""Draw channels: scenarios, moving users, multipath, and the channel sources of other tools."""
