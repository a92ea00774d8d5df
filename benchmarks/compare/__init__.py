"""Runtimes side by side: each in a process of its own (worker), asked in turns (driver), told as JSON, table and chart."""
