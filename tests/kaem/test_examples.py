"""The examples in docstrings run, and every class that a user builds has one."""

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest
import torch

import kaem

MODULES = [import_module(f"kaem.{info.name}") for info in pkgutil.iter_modules(kaem.__path__)]
CLASSES = [getattr(kaem, name) for name in kaem.__all__ if inspect.isclass(getattr(kaem, name))]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples_print_what_they_say(module):
    torch.manual_seed(0)
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("cls", CLASSES)
def test_every_public_class_has_an_example(cls):
    assert doctest.DocTestFinder(recurse=False).find(cls)[0].examples
