"""PyTorch's own operator database, OpInfo, through torch_tvm and beside eager PyTorch.

`samples` runs one sample and says what became of it; `pool` runs many in processes that may crash and hang; `report`
counts outcomes and writes them down. ``make conformance`` runs all of it (`__main__`).
"""
