"""Evaluate methods that acquire CSI: sequences of moving users, sum rate from their CSI, NMSE, SGCS and intervals."""
