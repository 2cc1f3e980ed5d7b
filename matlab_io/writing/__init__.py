"""Write channels and precoding results to ``.mat`` files that appear complete or not at all."""
