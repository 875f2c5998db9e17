"""The XANES surrogate: per-atom spectra from geometry, calibrated and differentiable."""
