"""Downlink mathematics in K x K matrices, from the channels and the link budget to precoders, powers, SINRs and bounds.

Signal model: y_k = h_k^H sum_j w_j sqrt(P_j) s_j + n_k, n_k ~ CN(0, sigma^2). The modules work on
Gamma = (P / sigma^2) H^H H, the dimensionless K x K matrix that holds all a precoder depends on, and on fractions
q_k = P_k / P of the power budget. Only the channels and the precoders have the size of the array.
"""
