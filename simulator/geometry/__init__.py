"""Describe arrays and users: angles and distances, array responses, the near-field boundary, localization."""
