"""Measurements of torch_tvm, each a script that prints what it measured and on what machine."""
