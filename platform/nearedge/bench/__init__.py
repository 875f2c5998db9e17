"""Measurements beside their baselines and limits: ``nearedge bench NAME``; see `base` for how to add one."""
