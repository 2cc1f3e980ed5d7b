"""Estimate channels from pilots by classical methods: least squares, gains per beam, matching pursuit, LMMSE."""
