"""`python -m class_hf` runs `class-hf`, for launchers that take a module."""

from class_hf.cli import main

main()
