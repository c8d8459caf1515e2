"""All wrong inputs."""

from argument_cases import choices, contradictions, numbers, train_numbers, unknown_arguments
from data_cases import molecule_tables, tables, training_files
from model_cases import models
from recipe_cases import recipes, studies
from scale_cases import changes, encodings, suspects
from search_cases import indexes, queries
from workshop import Case

GENERATORS = (
    unknown_arguments,
    numbers,
    train_numbers,
    choices,
    recipes,
    studies,
    contradictions,
    tables,
    molecule_tables,
    training_files,
    models,
    indexes,
    queries,
    encodings,
    suspects,
    changes,
)


def all_cases() -> list[Case]:
    """All cases, in the order of the generators."""
    return [case for generator in GENERATORS for case in generator()]
