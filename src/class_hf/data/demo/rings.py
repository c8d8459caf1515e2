"""Ring systems with names and numbering, for the demo captions.

The selection covers the NCI molecules that RDKit ships. Names and numbering follow the IUPAC recommendations
(2013, P-2) and ChEBI's usage.
"""

from typing import NamedTuple


class Ring(NamedTuple):
    """A named ring system.

    ``smiles`` lists its atoms in the order of ``locants`` ("-" for an exocyclic oxygen). A ring without
    locants has a name but no numbering, so its substituents get no positions.
    """

    smiles: str
    name: str
    locants: str = ""


_SIX = "1 2 3 4 5 6"
_FIVE = "1 2 3 4 5"
_NAPHTHO = "1 2 3 4 4a 5 6 7 8 8a"
_INDO = "1 2 3 3a 4 5 6 7 7a"
_ANTHRA = "1 2 3 4 4a 10 10a 5 6 7 8 8a 9 9a"
_PHENOTHIA = "1 2 3 4 4a 5 5a 6 7 8 9 9a 10 10a"
_PHENANTHRA = "1 2 3 4 4a 4b 5 6 7 8 8a 9 10 10a"
_CARBAZO = "1 2 3 4 4a 4b 5 6 7 8 8a 9 9a"
_DIBENZO = "1 2 3 4 4a 5 5a 6 7 8 9 9a 9b"

RINGS: tuple[Ring, ...] = (
    # carbocycles
    Ring("C1CC1", "cyclopropane", "1 2 3"),
    Ring("C1CCC1", "cyclobutane", "1 2 3 4"),
    Ring("C1CCCC1", "cyclopentane", _FIVE),
    Ring("C1CCCCC1", "cyclohexane", _SIX),
    Ring("C1CCCCCC1", "cycloheptane", "1 2 3 4 5 6 7"),
    Ring("C1CCCCCCC1", "cyclooctane", "1 2 3 4 5 6 7 8"),
    Ring("C1=CCCC1", "cyclopentene", _FIVE),
    Ring("C1=CCCCC1", "cyclohexene", _SIX),
    Ring("C1=CC=CCC1", "cyclohexa-1,3-diene", _SIX),
    Ring("C1=CC=CC1", "cyclopenta-1,3-diene", _FIVE),
    Ring("c1ccccc1", "benzene", _SIX),
    Ring("c1cccc2ccccc12", "naphthalene", _NAPHTHO),
    Ring("C1CCCc2ccccc12", "1,2,3,4-tetrahydronaphthalene", _NAPHTHO),
    Ring("C1CCCC2CCCCC12", "decahydronaphthalene", _NAPHTHO),
    Ring("C1CCc2ccccc12", "indane", _INDO),
    Ring("C1C=Cc2ccccc12", "indene", _INDO),
    Ring("c1cccc2cc3ccccc3cc12", "anthracene", _ANTHRA),
    Ring("c1cccc2c3ccccc3ccc12", "phenanthrene", _PHENANTHRA),
    Ring("C1CCCC2c3ccccc3CCC12", "octahydrophenanthrene", _PHENANTHRA),
    Ring("c1cccc2-c3ccccc3Cc12", "fluorene", _CARBAZO),
    Ring("C1Cc2cccc3cccc1c23", "acenaphthene", "1 2 2a 3 4 5 5a 6 7 8 8a 8b"),
    Ring("c1cc2cccc3ccc4cccc1c4c23", "pyrene"),
    Ring("C12CCC(CC1)C2", "bicyclo[2.2.1]heptane", "1 2 3 4 5 6 7"),
    Ring("C12CCC(CC1)CC2", "bicyclo[2.2.2]octane", "1 2 3 4 5 6 7 8"),
    Ring("C12CCCC(C1)C2", "bicyclo[3.1.1]heptane", "1 2 3 4 5 7 6"),
    Ring("C12CC3CC4CC5C1.C24.C35", "adamantane", "1 2 3 4 5 6 7 8 9 10"),
    # oxo derivatives with names of their own
    Ring("C1(=O)C=CC(=O)C=C1", "1,4-benzoquinone", "1 - 2 3 4 - 5 6"),
    Ring("C1(=O)C=CC(=O)c2ccccc12", "1,4-naphthoquinone", "1 - 2 3 4 - 4a 5 6 7 8 8a"),
    Ring("c1cccc2C(=O)c3ccccc3C(=O)c12", "9,10-anthraquinone", "1 2 3 4 4a 10 - 10a 5 6 7 8 8a 9 - 9a"),
    Ring("c1cccc2-c3ccccc3C(=O)c12", "fluoren-9-one", "1 2 3 4 4a 4b 5 6 7 8 8a 9 - 9a"),
    Ring("c1cccc2Cc3ccccc3C(=O)c12", "anthrone"),
    Ring("C1(=O)CCc2ccccc12", "indan-1-one", "1 - 2 3 3a 4 5 6 7 7a"),
    Ring("C1(=O)CC(=O)c2ccccc12", "indane-1,3-dione", "1 - 2 3 - 3a 4 5 6 7 7a"),
    Ring("N1C(=O)CCC1=O", "succinimide", "1 2 - 3 4 5 -"),
    Ring("N1C(=O)C=CC1=O", "maleimide", "1 2 - 3 4 5 -"),
    Ring("N1C(=O)CCCC1=O", "glutarimide", "1 2 - 3 4 5 6 -"),
    Ring("C1(=O)NC(=O)c2ccccc12", "phthalimide", "1 - 2 3 - 3a 4 5 6 7 7a"),
    Ring("C1(=O)OC(=O)c2ccccc12", "phthalic anhydride", "1 - 2 3 - 3a 4 5 6 7 7a"),
    Ring("C1(=O)OCc2ccccc12", "phthalide", "1 - 2 3 3a 4 5 6 7 7a"),
    Ring("N1C(=O)C(=O)c2ccccc12", "isatin", "1 2 - 3 - 3a 4 5 6 7 7a"),
    Ring("O1C(=O)CCC1", "gamma-butyrolactone", "1 2 - 3 4 5"),
    Ring("O1C(=O)CCC1=O", "succinic anhydride", "1 2 - 3 4 5 -"),
    Ring("O1C(=O)C=CC1=O", "maleic anhydride", "1 2 - 3 4 5 -"),
    Ring("o1ccc(=O)cc1", "pyran-4-one", "1 2 3 4 - 5 6"),
    Ring("o1c(=O)ccc2ccccc12", "coumarin", "1 2 - 3 4 4a 5 6 7 8 8a"),
    Ring("o1ccc(=O)c2ccccc12", "chromone", "1 2 3 4 - 4a 5 6 7 8 8a"),
    Ring("O1CCC(=O)c2ccccc12", "chromanone"),
    Ring("c1cccc2oc3ccccc3c(=O)c12", "xanthone", "1 2 3 4 4a 10 10a 5 6 7 8 8a 9 - 9a"),
    Ring("c1cccc2[nH]c3ccccc3c(=O)c12", "acridone"),
    Ring("N1C(=O)NC(=O)CC1=O", "barbituric acid", "1 2 - 3 4 - 5 6 -"),
    Ring("N1C(=O)NC(=O)C1", "hydantoin", "1 2 - 3 4 - 5"),
    Ring("S1C(=S)NC(=O)C1", "rhodanine", "1 2 - 3 4 - 5"),
    Ring("[nH]1c(=O)[nH]c(=O)cc1", "uracil", "1 2 - 3 4 - 5 6"),
    Ring("[nH]1c(=O)[nH]c2nc[nH]c2c1=O", "xanthine", "1 2 - 3 4 9 8 7 5 6 -"),
    Ring("[nH]1cnc2c(c1=O)nc[nH]2", "hypoxanthine"),
    Ring("[nH]1c(=O)nc2[nH]c(=O)nc-2c1=O", "pteridinetrione"),
    Ring("[nH]1c(=O)nc2[nH]c3ccccc3nc-2c1=O", "isoalloxazine"),
    # one nitrogen
    Ring("C1CN1", "aziridine"),
    Ring("N1CCC1", "azetidine", "1 2 3 4"),
    Ring("N1CCCC1", "pyrrolidine", _FIVE),
    Ring("[nH]1cccc1", "pyrrole", _FIVE),
    Ring("N1CCCCC1", "piperidine", _SIX),
    Ring("N1CCCCCC1", "azepane", "1 2 3 4 5 6 7"),
    Ring("n1ccccc1", "pyridine", _SIX),
    Ring("[nH+]1ccccc1", "pyridinium", _SIX),
    Ring("[nH]1ccc2ccccc12", "indole", _INDO),
    Ring("N1CCc2ccccc12", "indoline", _INDO),
    Ring("n1cccc2ccccc12", "quinoline", _NAPHTHO),
    Ring("N1CCCc2ccccc12", "1,2,3,4-tetrahydroquinoline", _NAPHTHO),
    Ring("[nH+]1cccc2ccccc12", "quinolinium", _NAPHTHO),
    Ring("c1nccc2ccccc12", "isoquinoline", _NAPHTHO),
    Ring("C1NCCc2ccccc12", "1,2,3,4-tetrahydroisoquinoline", _NAPHTHO),
    Ring("c1[nH+]ccc2ccccc12", "isoquinolinium", _NAPHTHO),
    Ring("c1cccc2c3ccccc3[nH]c12", "carbazole", _CARBAZO),
    Ring("c1cccc2nc3ccccc3cc12", "acridine", _ANTHRA),
    Ring("C1CCCc2nc3ccccc3cc12", "1,2,3,4-tetrahydroacridine", _ANTHRA),
    Ring("c1ccc2c(c1)c[nH+]c1ccccc12", "phenanthridinium"),
    Ring("N12CCC(CC1)CC2", "quinuclidine", "1 2 3 4 5 6 7 8"),
    # two and more nitrogens
    Ring("N1CCNCC1", "piperazine", _SIX),
    Ring("N1CNCC1", "imidazolidine", _FIVE),
    Ring("N1C=NCC1", "4,5-dihydroimidazole"),
    Ring("[nH]1cncc1", "imidazole", _FIVE),
    Ring("[nH]1nccc1", "pyrazole", _FIVE),
    Ring("N1N=CCC1", "4,5-dihydropyrazole", _FIVE),
    Ring("N1N=CCC1=O", "pyrazolone", "1 2 3 4 5 -"),
    Ring("[nH]1ncnc1", "1,2,4-triazole", _FIVE),
    Ring("[nH]1nncc1", "1,2,3-triazole", _FIVE),
    Ring("[nH]1nnnc1", "tetrazole"),
    Ring("n1ncccc1", "pyridazine", _SIX),
    Ring("n1cnccc1", "pyrimidine", _SIX),
    Ring("n1ccncc1", "pyrazine", _SIX),
    Ring("n1cncnc1", "1,3,5-triazine", _SIX),
    Ring("n1nccnc1", "1,2,4-triazine"),
    Ring("N1CNCNC1", "1,3,5-triazinane", _SIX),
    Ring("[nH]1cnc2ccccc12", "benzimidazole", _INDO),
    Ring("[nH]1ncc2ccccc12", "indazole", _INDO),
    Ring("[nH]1nnc2ccccc12", "benzotriazole", _INDO),
    Ring("n1cncc2ccccc12", "quinazoline", _NAPHTHO),
    Ring("n1ccnc2ccccc12", "quinoxaline", _NAPHTHO),
    Ring("c1nncc2ccccc12", "phthalazine", _NAPHTHO),
    Ring("n1nccc2ccccc12", "cinnoline", _NAPHTHO),
    Ring("n1cccc2cccnc12", "1,8-naphthyridine", _NAPHTHO),
    Ring("n1cnc2c(c1)nc[nH]2", "purine", "1 2 3 4 5 6 7 8 9"),
    Ring("[nH]1ncc2cncnc12", "pyrazolo[3,4-d]pyrimidine", _INDO),
    Ring("n1n[nH]c2ncncc12", "[1,2,3]triazolo[4,5-d]pyrimidine", _INDO),
    Ring("[nH]1ncc2ncncc12", "pyrazolo[4,3-d]pyrimidine", _INDO),
    Ring("n1ccn2nccc2c1", "pyrazolo[1,5-a]pyrazine"),
    Ring("n1cccn2nccc12", "pyrazolo[1,5-a]pyrimidine"),
    Ring("n1cnc2ncncc2n1", "pyrimido[5,4-e][1,2,4]triazine"),
    Ring("n1cncc2nccnc12", "pteridine", _NAPHTHO),
    Ring("c1cccc2nc3ccccc3nc12", "phenazine", "1 2 3 4 4a 5 5a 6 7 8 9 9a 10 10a"),
    Ring("c1cccc2[nH+]c3ccccc3nc12", "phenazinium"),
    Ring("c1cc2ccc3cccnc3c2nc1", "1,10-phenanthroline"),
    # oxygen
    Ring("O1CC1", "oxirane", "1 2 3"),
    Ring("O1CCC1", "oxetane", "1 2 3 4"),
    Ring("O1CCCC1", "oxolane", _FIVE),
    Ring("o1cccc1", "furan", _FIVE),
    Ring("O1CCCCC1", "oxane", _SIX),
    Ring("[o+]1ccccc1", "pyrylium", _SIX),
    Ring("O1COCC1", "1,3-dioxolane", _FIVE),
    Ring("O1COCCC1", "1,3-dioxane", _SIX),
    Ring("O1CCOCC1", "1,4-dioxane", _SIX),
    Ring("o1ccc2ccccc12", "1-benzofuran", _INDO),
    Ring("O1CCc2ccccc12", "2,3-dihydro-1-benzofuran", _INDO),
    Ring("O1COc2ccccc12", "1,3-benzodioxole", _INDO),
    Ring("O1CCOc2ccccc12", "1,4-benzodioxane", _NAPHTHO),
    Ring("O1CCCc2ccccc12", "chromane", _NAPHTHO),
    Ring("c1cccc2oc3ccccc3c12", "dibenzofuran", _DIBENZO),
    Ring("c1cccc2Oc3ccccc3Cc12", "xanthene", "1 2 3 4 4a 10 10a 5 6 7 8 8a 9 9a"),
    # sulfur and mixed heteroatoms
    Ring("S1CCCC1", "thiolane", _FIVE),
    Ring("s1cccc1", "thiophene", _FIVE),
    Ring("s1ccc2ccccc12", "1-benzothiophene", _INDO),
    Ring("c1cccc2sc3ccccc3c12", "dibenzothiophene", _DIBENZO),
    Ring("S1CCSCC1", "1,4-dithiane", _SIX),
    Ring("S1CSCSC1", "1,3,5-trithiane", _SIX),
    Ring("c1cccc2Sc3ccccc3Sc12", "thianthrene", _PHENOTHIA),
    Ring("c1cccc2Sc3ccccc3Nc12", "phenothiazine", _PHENOTHIA),
    Ring("c1cccc2Oc3ccccc3Nc12", "phenoxazine", _PHENOTHIA),
    Ring("O1CCNCC1", "morpholine", _SIX),
    Ring("S1CCNCC1", "thiomorpholine", _SIX),
    Ring("o1cncc1", "1,3-oxazole", _FIVE),
    Ring("o1nccc1", "1,2-oxazole", _FIVE),
    Ring("s1cncc1", "1,3-thiazole", _FIVE),
    Ring("S1CNCC1", "1,3-thiazolidine", _FIVE),
    Ring("s1cnnc1", "1,3,4-thiadiazole", _FIVE),
    Ring("o1cnnc1", "1,3,4-oxadiazole", _FIVE),
    Ring("o1nccn1", "1,2,5-oxadiazole", _FIVE),
    Ring("s1nccc1", "1,2-thiazole", _FIVE),
    Ring("o1cnc2ccccc12", "1,3-benzoxazole", _INDO),
    Ring("s1cnc2ccccc12", "1,3-benzothiazole", _INDO),
    Ring("n1snc2ccccc12", "2,1,3-benzothiadiazole", _INDO),
)

# Classes of rings that do not follow "member of <name>s". An empty class is not mentioned.
RING_CLASSES: dict[str, str] = {
    **dict.fromkeys(("cyclopropane", "cyclobutane", "cyclopentane", "cyclohexane", "cycloheptane"), ""),
    **dict.fromkeys(("cyclooctane", "cyclopentene", "cyclohexene", "decahydronaphthalene"), ""),
    **dict.fromkeys(("cyclohexa-1,3-diene", "cyclopenta-1,3-diene", "octahydrophenanthrene"), ""),
    **dict.fromkeys(("bicyclo[2.2.1]heptane", "bicyclo[2.2.2]octane", "bicyclo[3.1.1]heptane"), ""),
    **dict.fromkeys(("succinimide", "maleimide", "glutarimide"), "dicarboximide"),
    **dict.fromkeys(("phthalic anhydride", "succinic anhydride", "maleic anhydride"), "cyclic dicarboxylic anhydride"),
    **dict.fromkeys(("xanthine", "hypoxanthine"), "oxopurine"),
    **{
        f"{name}ium": f"{name}ium ion"
        for name in ("pyridin", "quinolin", "isoquinolin", "phenanthridin", "phenazin", "pyryl")
    },
    "9,10-anthraquinone": "anthraquinone",
    "1,2,3,4-tetrahydronaphthalene": "member of tetralins",
    "1,2,3,4-tetrahydroquinoline": "member of quinolines",
    "1,2,3,4-tetrahydroisoquinoline": "member of isoquinolines",
    "1,2,3,4-tetrahydroacridine": "member of acridines",
    "4,5-dihydropyrazole": "member of pyrazoles",
    "4,5-dihydroimidazole": "member of imidazoles",
    "oxirane": "epoxide",
    "gamma-butyrolactone": "gamma-lactone",
    "barbituric acid": "member of barbiturates",
    "hydantoin": "imidazolidine-2,4-dione",
    "uracil": "pyrimidone",
    "isoalloxazine": "flavin",
    "2,3-dihydro-1-benzofuran": "member of 1-benzofurans",
}
