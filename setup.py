"""Everything is declared in pyproject.toml; CMakeLists.txt builds the libraries."""

from setuptools import setup

setup(cmake_source_dir=".")
