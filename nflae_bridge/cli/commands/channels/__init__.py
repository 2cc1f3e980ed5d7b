"""Hold the commands on channels: inspect, simulate and precode."""
