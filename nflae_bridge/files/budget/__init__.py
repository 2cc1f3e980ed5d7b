"""Choose the link budget of a channel file: powers, noise per user, and the SNRs of its users."""
