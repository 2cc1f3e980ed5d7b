"""Geometry of array and users: angles and distances, array responses, the near-field boundary, localization."""
