"""Relay function to plan: the pipeline, Relay to Relax, passes, fusion, kernels, memory."""
