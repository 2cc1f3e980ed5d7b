"""Hold the commands that compare schemes and repeat studies: evaluate, link, reproduce and bench."""
