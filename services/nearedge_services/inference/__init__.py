"""What a spectrum alone says about density and bonding, with intervals."""
