"""Hold the commands that compare methods and repeat studies: evaluate, link, beams, bench and reproduce."""
