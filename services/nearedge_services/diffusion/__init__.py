"""The generative model: a denoising prior over disordered structures, its training, sampling and guidance."""
