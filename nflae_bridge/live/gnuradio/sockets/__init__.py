"""Sockets of a stream: their addresses, their peers' arrivals and departures, one connection to a sender at a time."""
