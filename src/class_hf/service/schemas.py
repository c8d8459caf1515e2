"""What requests and answers hold. The OpenAPI description is made of these classes."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from class_hf.search.conditions import MAX_WHERE
from class_hf.search.query import MAX_K, MAX_SMARTS, MAX_SMILES, MAX_TEXT, MoleculeFilter

# Values are checked by the search, whose errors say what to do. Here they are only described.
Text = Annotated[str, Field(json_schema_extra={"maxLength": MAX_TEXT})]
Smiles = Annotated[str, Field(json_schema_extra={"maxLength": MAX_SMILES})]
Count = Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": MAX_K})]
_TEXT = "a pyridine with a carboxylic acid group"
_ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


class _Request(BaseModel):
    """A body without unknown fields. A number in quotes is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Filters(_Request):
    """Conditions on the molecules. All of them must hold."""

    min_weight: float | None = Field(None, description="Smallest molecular weight in Da.")
    max_weight: float | None = Field(None, description="Largest molecular weight in Da.", examples=[500])
    elements: str | list[str] | None = Field(None, description="Elements that a molecule must contain.")
    substructure: str | None = Field(
        None,
        description="SMARTS that must match.",
        examples=["c1ccncc1"],
        json_schema_extra={"maxLength": MAX_SMARTS},
    )
    use_stereo: bool = Field(True, description="Whether the stereo marks of the substructure must match.")
    where: str | None = Field(
        None,
        description="Comparisons on columns of the table, such as 'logS < -2 and vendor = \"x\"'.",
        json_schema_extra={"maxLength": MAX_WHERE},
    )
    min_score: float | None = Field(None, description="Smallest score of a hit.")

    def to_filter(self, time_limit: float) -> MoleculeFilter:
        """The filter of a search.

        Args:
            time_limit (`float`): seconds for the substructure.
        """
        return MoleculeFilter(time_limit=time_limit, **self.model_dump())


class SearchBody(_Request):
    """A search for molecules, by text or by molecule."""

    text: Text | list[Text] | None = Field(None, description="One or several descriptions.")
    smiles: Smiles | list[Smiles] | None = Field(None, description="One or several molecules.")
    k: Count = Field(10, description="Number of hits of each query.")
    filters: Filters | None = None
    query_bank: bool | None = Field(
        None, description="Subtract the penalties of the query bank. Default: if the index has one."
    )
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": _TEXT, "k": 5, "filters": {"max_weight": 500, "substructure": "c1ccncc1"}},
                {"smiles": [_ASPIRIN, "CCO"], "k": 3},
            ]
        }
    )


class CaptionsBody(_Request):
    """A search for captions by molecule."""

    smiles: Smiles | list[Smiles] = Field(description="One or several molecules.")
    k: Count = Field(10, description="Number of captions of each query.")
    model_config = ConfigDict(json_schema_extra={"examples": [{"smiles": _ASPIRIN, "k": 3}]})


class TextsBody(_Request):
    """Texts to encode."""

    texts: list[Text] = Field(min_length=1)
    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": [_TEXT, "a thiol"]}]})


class MoleculesBody(_Request):
    """Molecules to encode."""

    smiles: list[Smiles] = Field(min_length=1)
    model_config = ConfigDict(json_schema_extra={"examples": [{"smiles": [_ASPIRIN, "CCO"]}]})


class HitAnswer(BaseModel):
    """One molecule, or one caption next to its molecule."""

    rank: int = Field(description="From 1.")
    score: float = Field(description="Cosine similarity, minus the penalty if the query bank is used.")
    id: str
    smiles: str
    fields: dict[str, Any] = Field(description="The other columns of the table.")


class SearchAnswer(BaseModel):
    """A list of hits for each query."""

    results: list[list[HitAnswer]]
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        [
                            {
                                "rank": 1,
                                "score": 0.76,
                                "id": "demo-00012",
                                "smiles": "O=C(O)c1ccncc1",
                                "fields": {"description": "The molecule is a pyridinecarboxylic acid."},
                            }
                        ]
                    ]
                }
            ]
        }
    )


class EmbeddingsAnswer(BaseModel):
    """L2-normalised vectors in the order of the inputs."""

    embeddings: list[list[float]]
    dimension: int
    model_config = ConfigDict(json_schema_extra={"examples": [{"embeddings": [[0.6, 0.8]], "dimension": 2}]})


class HealthAnswer(BaseModel):
    """What the service serves."""

    status: str = Field(examples=["ok"])
    version: str = Field(examples=["0.2.0"])
    molecules: int
    captions: int
    query_bank: bool


class ErrorAnswer(BaseModel):
    """What is wrong, in one line."""

    error: str = Field(examples=["k is 0; expected a whole number from 1 to 10,000."])
