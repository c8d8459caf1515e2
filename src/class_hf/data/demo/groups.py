"""Functional groups of the demo captions: SMARTS patterns, each with a compound class and a noun.

The choice of patterns and their exclusions are this project's. Classes are named as in ChEBI.
"""

from functools import cache
from typing import NamedTuple

from rdkit import Chem


class Group(NamedTuple):
    """A functional group: its SMARTS, its class of compounds, and its noun.

    ``{n}`` in the class becomes mono, di, tri, ... with the number of groups. An empty class or noun
    is never mentioned. Matches with the same first two atoms count once.
    """

    smarts: str
    compound_class: str
    noun: str = ""


# Pieces of patterns. An acyl carbon carries carbon or hydrogen only; an alkyl or aryl carbon is not
# doubly bonded to a heteroatom; an amine nitrogen sees neither such a carbon nor another heteroatom.
_ACYL = "$([#6X3][#6]),$([CX3H1])"
_R = "[#6;!$([#6]=[O,S,N]);!$(C#N)]"
_AMINE = "+0;!$(N[#6]=[!#6]);!$(NC#N);!$(N~[!#6])"
_CARBINOL = "!$(C(O)[O,N,S])"
_PHENYL = "[cR1]1[cR1][cR1][cR1][cR1][cR1]1"  # not fused to another ring

GROUPS: tuple[Group, ...] = (
    # acids and their anions
    Group("[CX3;$(C[#6]),$([CH])](=[OX1])[OX2H]", "{n}carboxylic acid", "carboxy group"),
    Group("[CX3;$(C[#6]),$([CH])](=[OX1])[OX1-]", "carboxylic acid anion", "carboxylate group"),
    Group("[SX4](=[OX1])(=[OX1])([OX2H])[#6]", "organosulfonic acid", "sulfo group"),
    Group("[SX4](=[OX1])(=[OX1])([OX1-])[#6]", "organosulfonate oxoanion", "sulfonate group"),
    Group("[SX3](=[OX1])([OX2H])[#6]", "organosulfinic acid", "sulfino group"),
    Group("[PX4](=[OX1])([OX2H])([OX2H])[#6]", "phosphonic acid", "phosphono group"),
    Group("[AsX4](=[OX1])([OX2H])([OX2H])[#6]", "arsonic acid", "arsono group"),
    Group("[BX3]([OX2H])([OX2H])[#6]", "boronic acid", "borono group"),
    Group(f"[OX2H][CX3](=[OX1])[CX4][NX3;{_AMINE}]", "alpha-amino acid"),
    Group("[OX2H][CX3](=[OX1])[CX4][NX3][CX3](=[OX1])[#6]", "N-acyl-amino acid"),
    Group(f"[OX2H][CX3](=[OX1]){_PHENYL}", "member of benzoic acids"),
    Group(f"[OX2H][CX3](=[OX1])[CX3H]=[CX3H]{_PHENYL}", "member of cinnamic acids"),
    Group(f"[OX2H][CX3](=[OX1])[CX4H2]{_PHENYL}", "member of phenylacetic acids"),
    # esters, anhydrides, halides
    Group(f"[{_ACYL}](=[OX1])!@[OX2]{_R}", "carboxylic ester", "ester group"),
    Group(f"[{_ACYL}](=[OX1])!@[OX2;$(O[CH3])]", "methyl ester"),
    Group(f"[{_ACYL}](=[OX1])!@[OX2;$(O[CH2][CH3])]", "ethyl ester"),
    Group(f"[CX3;$(C[CH3])](=[OX1])!@[OX2]{_R}", "acetate ester"),
    Group(f"[CX3;$(C{_PHENYL})](=[OX1])!@[OX2]{_R}", "benzoate ester"),
    Group(f"[#6X3;$([#6][#6])](=[OX1])@[#8X2]@{_R}", "lactone", "lactone ring"),
    Group("[OX2]([CX3;$(C[#6])]=[OX1])[CX3;$(C[#6])]=[OX1]", "acid anhydride", "anhydride group"),
    Group("[CX3;$(C[#6])](=[OX1])[F,Cl,Br,I]", "acyl halide", "acyl halide group"),
    Group("[CX3](=[OX1])([OX2][#6])[OX2][#6]", "carbonate ester", "carbonate group"),
    Group("[CX3](=[OX1])([NX3])[OX2][#6]", "carbamate ester", "carbamate group"),
    Group("[CX3](=[OX1])([NX3])[SX2][#6]", "thiocarbamic ester", "thiocarbamate group"),
    Group("[CX3](=[SX1])([NX3])[OX2][#6]", "thiocarbamic ester", "thiocarbamate group"),
    Group("[CX3](=[SX1])([NX3])[SX2;!R][#6]", "dithiocarbamic ester", "dithiocarbamate group"),
    Group("[CX3](=[SX1])([NX3])[SX2H]", "dithiocarbamic acid", "dithiocarbamic acid group"),
    Group("[CX3](=[SX1])([OX2][#6])[SX2]", "xanthate ester", "xanthate group"),
    Group("[CX3;$(C[#6])](=[OX1])[SX2][#6]", "thioester", "thioester group"),
    # amides and other acylated nitrogen
    Group("[CX3;$(C[#6]),$([CH])](=[OX1])!@[NX3;H2]", "primary carboxamide", "carboxamide group"),
    Group(
        "[CX3;$(C[#6]),$([CH])](=[OX1])!@[NX3;H1;!$(N~[!#6]);!$(N([#6]=[O,S,N])[#6]=[O,S,N])]",
        "secondary carboxamide",
        "carboxamide group",
    ),
    Group(
        "[CX3;$(C[#6]),$([CH])](=[OX1])!@[NX3;H0;!$(N~[!#6]);!$(N([#6]=[O,S,N])[#6]=[O,S,N])]",
        "tertiary carboxamide",
        "carboxamide group",
    ),
    Group(f"[CX3;$(C{_PHENYL})](=[OX1])!@[NX3;!$(N~[!#6])]", "member of benzamides"),
    Group("[CX3;$(C[CH3])](=[OX1])!@[NX3;!$(N~[!#6])]", "member of acetamides"),
    Group(f"[NX3;H1;$(N{_PHENYL})][CX3;!R](=[OX1])[#6]", "anilide"),
    Group("[CX3;R;$(C[#6])](=[OX1])@[NX3;!$(N(C=O)C=O)]", "lactam", "lactam ring"),
    Group("[NX3]([CX3;$(C[#6])]=[OX1])[CX3;$(C[#6])]=[OX1]", "dicarboximide", "imide group"),
    Group("[CX3](=[OX1])([NX3;!$(N~[!#6])])[NX3;!$(N~[!#6])]", "member of ureas", "urea group"),
    Group("[CX3](=[SX1])([NX3;!$(N~[!#6])])[NX3;!$(N~[!#6])]", "member of thioureas", "thiourea group"),
    Group("[CX3;$(C[#6])](=[SX1])[NX3]", "thiocarboxamide", "thioamide group"),
    Group("[CX3;$(C[#6]),$([CH])](=[OX1])[NX3;+0][NX3;+0]", "carbohydrazide", "hydrazide group"),
    Group("[CX3;$(C[#6])](=[OX1])[NX3][OX2H]", "hydroxamic acid", "hydroxamic acid group"),
    Group("[CX3;$(C[#6]),$([CH])](=[NX2;!R;!$(N[!#6])])[NX3]", "carboxamidine", "amidine group"),
    Group("[CX3](=[NX2]O)[NX3]", "amidoxime", "amidoxime group"),
    Group("[CX3](=[NX2,NX3+])([NX3])[NX3]", "member of guanidines", "guanidine group"),
    Group("[NX3]([CX3](=[NX2])[NX3])[CX3](=[NX2])[NX3]", "member of biguanides"),
    Group("[CX3](=[NX2])([NX3])[SX2][#6]", "imidothiocarbamic ester", "isothiourea group"),
    # unsaturated nitrogen
    Group("[CX2](#[NX1])[#6]", "nitrile", "cyano group"),
    Group("[NX2]=[CX2]=[OX1]", "isocyanate", "isocyanate group"),
    Group("[NX2]=[CX2]=[SX1]", "isothiocyanate", "isothiocyanate group"),
    Group("[SX2]([#6])[CX2]#[NX1]", "organic thiocyanate", "thiocyanate group"),
    Group("[NX3][CX2]#[NX1]", "member of cyanamides", "cyanamide group"),
    Group("[NX3+](=[OX1])([OX1-])[#6]", "C-nitro compound", "nitro group"),
    Group(f"[NX3+](=[OX1])([OX1-]){_PHENYL}", "member of nitrobenzenes"),
    Group("[NX3+](=[OX1])([OX1-])[#7]", "N-nitro compound", "N-nitro group"),
    Group("[NX3+](=[OX1])([OX1-])[OX2][#6]", "nitrate ester", "nitrate ester group"),
    Group("[NX2](=[OX1])[#6]", "nitroso compound", "nitroso group"),
    Group("[NX2](=[OX1])[#7]", "N-nitroso compound", "N-nitroso group"),
    Group("[NX2](=[OX1])[OX2][#6]", "nitrite ester", "nitrite ester group"),
    Group("[NX2;!R;$(N[#6])]=[NX2;!R;$(N[#6])]", "azo compound", "azo group"),
    Group(f"[NX2;!R;$(N{_PHENYL})]=[NX2;!R;$(N{_PHENYL})]", "member of azobenzenes"),
    Group("[NX2;!R](=[NX2;!R])[NX3]", "triazene", "triazene group"),
    Group("[NX2]=[NX2+]=[NX1-]", "azide", "azido group"),
    Group("[CX3]=[NX2+]=[NX1-]", "diazo compound", "diazo group"),
    Group("[NX3+]([OX1-])=[NX2]", "azoxy compound", "azoxy group"),
    Group("[nX3+][OX1-]", "heteroaromatic N-oxide", "N-oxide group"),
    Group("[NX4+][OX1-]", "tertiary amine oxide", "N-oxide group"),
    Group("[NX3+](=[CX3])[OX1-]", "nitrone", "nitrone group"),
    Group("[NX2](=[CX3;$(C([#6])[#6])])[OX2H]", "ketoxime", "oxime group"),
    Group("[NX2](=[CX3H1;$(C[#6])])[OX2H]", "aldoxime", "oxime group"),
    Group("[NX2](=[CX3])[OX2][#6]", "oxime O-ether", "oxime ether group"),
    Group("[NX2;!R](=[#6])[NX3;!$(N[CX3](=[O,S])N)]", "hydrazone", "hydrazone group"),
    Group("[NX2;!R](=[#6])[NX3][CX3](=[OX1])[NX3]", "semicarbazone", "semicarbazone group"),
    Group("[NX2;!R](=[#6])[NX3][CX3](=[SX1])[NX3]", "thiosemicarbazone", "thiosemicarbazone group"),
    Group("[NX2;!R](=[CX3])[NX2;!R]=[CX3]", "azine", "azine group"),
    Group("[NX2;!R](=[CX3H1;!R;$(C[#6])])[#6]", "aldimine", "imine group"),
    Group("[NX2;!R;$(N-[#6]),$([NH])]=[CX3;$(C([#6])[#6])]", "ketimine", "imine group"),
    Group("[NX3][NX3][CX3;!R](=[OX1])[NX3;!R]", "semicarbazide", "semicarbazide group"),
    Group("[NX3][NX3][CX3;!R](=[SX1])[NX3;!R]", "thiosemicarbazide", "thiosemicarbazide group"),
    Group("[NX3;!R;+0;!$(N[#6]=[!#6])][NX3;!R;+0;!$(N[#6]=[!#6])]", "member of hydrazines", "hydrazine group"),
    Group("[NX3;+0;!$(N[#6]=[!#6])]([#6])[OX2]", "member of hydroxylamines", "hydroxylamine group"),
    # amines and ammonium ions
    Group(f"[NX3;H2;{_AMINE}][CX4]", "primary amino compound", "primary amino group"),
    Group(f"[NX3;H2;{_AMINE}]c", "primary arylamine", "aromatic amino group"),
    Group(f"[NX3;H2;{_AMINE}]{_PHENYL}", "substituted aniline"),
    Group(f"[NX3;H1;{_AMINE}]([#6])[#6]", "secondary amino compound", "secondary amino group"),
    Group(f"[NX3;H0;{_AMINE}]([#6])([#6])[#6]", "tertiary amino compound", "tertiary amino group"),
    Group(f"[NX3;{_AMINE}]([CX4H2][CX4H2][Cl,Br])[CX4H2][CX4H2][Cl,Br]", "nitrogen mustard"),
    Group("[NX4;+;H0]([#6])([#6])([#6])[#6]", "quaternary ammonium ion", "quaternary ammonium group"),
    Group("[NX4;+;!H0]", "ammonium ion", "ammonium group"),
    Group("[NX3+]([#6])([#6])=[CX3]", "iminium ion", "iminium group"),
    # hydroxy compounds and ethers
    Group(f"[OX2H][CX4;H2,H3;{_CARBINOL}]", "primary alcohol", "hydroxy group"),
    Group(f"[OX2H][CX4;H1;{_CARBINOL}]", "secondary alcohol", "hydroxy group"),
    Group(f"[OX2H][CX4;H0;{_CARBINOL}]", "tertiary alcohol", "hydroxy group"),
    Group("[OX2H][CX4][OX2][#6]", "hemiacetal", "hydroxy group"),
    Group("[OX2H][CX4][NX3]", "hemiaminal", "hydroxy group"),
    Group("[OX2H]c1ccccc1", "member of phenols", "phenolic hydroxy group"),
    Group("[OX2H][c;$(c1cccc2ccccc12),$(c1ccc2ccccc2c1)]", "naphthol"),
    Group("[OX2H]c1ccccc1[OX2H]", "member of catechols"),
    Group("[OX2H]c1cccc([OX2H])c1", "member of resorcinols"),
    Group("[OX2H]c1ccc([OX2H])cc1", "member of hydroquinones"),
    Group("[OX2H][c;!$(c1ccccc1)]", "heteroaryl hydroxy compound", "heteroaryl hydroxy group"),
    Group("[OX2H][CX3]=[CX3]", "enol", "enolic hydroxy group"),
    Group(f"[OX2;!R]([c]){_R}", "aromatic ether"),
    Group("[OX2;!R]([c])[c]", "diaryl ether", "diaryl ether linkage"),
    Group(f"[OX2;!R]([CX4;{_CARBINOL}])[CX4;{_CARBINOL}]", "dialkyl ether", "ether linkage"),
    Group(f"[OX2]([CH3]){_R}", "", "methoxy group"),
    Group(f"[OX2]([CH2][CH3]){_R}", "", "ethoxy group"),
    Group(f"[CH3][OX2]{_PHENYL}", "member of methoxybenzenes"),
    Group("[CX4]([OX2][#6])[OX2][#6]", "acetal", "acetal group"),
    Group("[OX2;$(O[#6])][OX2]", "organic peroxide", "peroxide group"),
    Group("[#7][CX4;R]1[OX2][CX4]([CX4])[CX4]([OX2])[CX4]1[OX2]", "N-glycosyl compound"),
    # aldehydes, ketones, quinones
    Group("[CX3H1](=[OX1])[#6]", "aldehyde", "formyl group"),
    Group(f"[CX3H1](=[OX1]){_PHENYL}", "member of benzaldehydes"),
    Group("[CX3;!R](=[OX1])([#6])[#6]", "ketone", "keto group"),
    Group("[CX3;!R](=[OX1])([c])[#6]", "aromatic ketone"),
    Group(f"[CX3;!R](=[OX1])([CH3]){_PHENYL}", "member of acetophenones"),
    Group(f"[CX3;!R](=[OX1])({_PHENYL})c1ccccc1", "member of benzophenones"),
    Group("[CX3;R](=[OX1])([#6])[#6]", "cyclic ketone", "ring keto group"),
    Group("[CX3;!$(C1C=CC(=O)C=C1)](=[OX1])([#6])[CX3]=[CX3]", "enone"),
    Group(f"[CX3](=[OX1])({_PHENYL})[CX3H]=[CX3H]c1ccccc1", "member of chalcones"),
    Group("[CX3](=[OX1])([#6])[CX4][CX3](=[OX1])[#6;!$([#6][O,N])]", "beta-diketone"),
    Group("[#6X3]1(=[OX1])[#6X3]~[#6X3][#6X3](=[OX1])[#6X3]~[#6X3]1", "quinone"),
    Group("[#6X3]1(=[OX1])[#6X3](=[OX1])[#6X3]~[#6X3]~[#6X3]~[#6X3]1", "quinone"),
    # sulfur
    Group("[SX2H][CX4]", "alkanethiol", "sulfanyl group"),
    Group("[SX2H]c", "aryl thiol", "sulfanyl group"),
    Group("[SX2;!R]([CX4])[CX4]", "dialkyl sulfide", "sulfide linkage"),
    Group(f"[SX2;!R](c){_R}", "aryl sulfide", "sulfide linkage"),
    Group("[SX2;!R;$(S[#6])][SX2;!R;$(S[#6])]", "organic disulfide", "disulfide linkage"),
    Group("[SX3](=[OX1])([#6])[#6]", "sulfoxide", "sulfinyl group"),
    Group("[SX4](=[OX1])(=[OX1])([#6])[#6]", "sulfone", "sulfonyl group"),
    Group("[SX4](=[OX1])(=[OX1])([NX3])[#6]", "sulfonamide", "sulfonamide group"),
    Group("[SX4](=[OX1])(=[OX1])([F,Cl,Br])[#6]", "sulfonyl halide", "sulfonyl halide group"),
    Group("[SX4](=[OX1])(=[OX1])([OX2][#6])[#6]", "organosulfonic ester", "sulfonate ester group"),
    Group("[SX4](=[OX1])(=[OX1])([OX2][#6])[OX2]", "sulfuric ester", "sulfate ester group"),
    Group("[SX4](=[OX1])(=[OX1])([SX2])[#6]", "thiosulfonic ester", "thiosulfonate group"),
    Group("[#6;R]=[SX1]", "", "thioxo group"),
    Group("[SX2;!R][NX3]", "sulfenamide", "sulfenamide group"),
    Group("[SX3;+]([#6])([#6])[#6]", "sulfonium ion", "sulfonium group"),
    # phosphorus
    Group("[PX4;$(P[OX2][#6])](=[OX1])([OX2])([OX2])[OX2]", "organic phosphate", "phosphate group"),
    Group("[PX4](=[SX1])([OX2,SX2])([OX2,SX2])[OX2,SX2]", "organic thiophosphate", "thiophosphate group"),
    Group("[PX4](=[OX1])([OX2][#6])[#6]", "phosphonic ester", "phosphonate ester group"),
    Group("[PX4](=[OX1,SX1])[NX3]", "phosphoramide", "phosphoramide group"),
    Group("[PX3]([#6])([#6])[#6]", "tertiary phosphine", "phosphine group"),
    Group("[PX4](=[OX1])([#6])([#6])[#6]", "phosphine oxide", "phosphine oxide group"),
    Group("[PX4;+]([#6])([#6])([#6])[#6]", "phosphonium ion", "phosphonium group"),
    Group("[PX4;H1](=[OX1])([OX2][#6])[OX2]", "phosphonic ester", "phosphonate ester group"),
    Group("[BX3]([OX2][#6])([OX2])[OX2]", "borate ester", "borate ester group"),
    # halogens
    Group("[F][#6]", "organofluorine compound"),
    Group("[Cl][#6]", "organochlorine compound"),
    Group("[Br][#6]", "organobromine compound"),
    Group("[I][#6]", "organoiodine compound"),
    Group("[F,Cl,Br,I][#7]", "N-halo compound", "N-halo group"),
    Group(f"[F]{_PHENYL}", "member of fluorobenzenes"),
    Group(f"[Cl]{_PHENYL}", "member of chlorobenzenes"),
    Group(f"[Br]{_PHENYL}", "member of bromobenzenes"),
    Group(f"[I]{_PHENYL}", "member of iodobenzenes"),
    Group("[F;!$(FC(F)F)][#6]", "", "fluoro group"),
    Group("[Cl;!$(ClC(Cl)Cl)][#6]", "", "chloro group"),
    Group("[Br][#6]", "", "bromo group"),
    Group("[IX1][#6]", "", "iodo group"),
    Group("[CX4;!$(C(F)(F)(F)F)](F)(F)F", "", "trifluoromethyl group"),
    Group("[CX4;$(C[#6])](Cl)(Cl)Cl", "", "trichloromethyl group"),
    # carbon frameworks
    Group("[CX3]=[CX3]", "olefinic compound", "carbon-carbon double bond"),
    Group("[CX2]#[CX2]", "acetylenic compound", "carbon-carbon triple bond"),
    Group("[CX2H1]#[CX2]", "terminal acetylenic compound"),
    Group(f"[CH3]{_PHENYL}", "member of toluenes"),
    Group(f"[CX3H1](=[CX3]){_PHENYL}", "member of styrenes"),
    Group("[CX3H1](c1ccccc1)=[CX3H1]c1ccccc1", "member of stilbenes"),
    Group("[c;$(c1ccccc1)]!@[c;$(c1ccccc1)]", "member of biphenyls"),
    Group("[CX4;!R](c1ccccc1)c1ccccc1", "diarylmethane"),
)


def _traits(molecule: Chem.Mol, certain: bool = False) -> set[tuple]:
    """Pairs of bound elements, each with the bond's order and with order 0 for any bond.

    With ``certain``, the pairs of a pattern that each of its matches must have. Comparing these sets before
    matching is much faster than matching.
    """
    orders = {Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3}
    traits: set[tuple] = set()
    for bond in molecule.GetBonds():
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        if certain and any("," in atom.GetSmarts() or not atom.GetAtomicNum() for atom in ends):
            continue
        elements = sorted(atom.GetAtomicNum() for atom in ends)
        if not certain:
            traits.add((*elements, orders.get(bond.GetBondType(), 1)))
            traits.add((*elements, 0))
        else:
            traits.add((*elements, {"=": 2, "#": 3}.get(Chem.Bond.GetSmarts(bond), 0)))
    return traits


@cache
def _patterns() -> list[tuple[Group, Chem.Mol, set[tuple]]]:
    patterns = [(group, Chem.MolFromSmarts(group.smarts)) for group in GROUPS]
    return [(group, pattern, _traits(pattern, certain=True)) for group, pattern in patterns]


def functional_groups(molecule: Chem.Mol) -> list[tuple[Group, int]]:
    """Functional groups of a molecule in the order of the table, each with its number of occurrences.

    >>> mol = Chem.MolFromSmiles("OC(=O)c1ccccc1C(=O)O")
    >>> [(group.noun, count) for group, count in functional_groups(mol) if group.noun]
    [('carboxy group', 2)]
    """
    traits = _traits(molecule)
    groups = []
    for group, pattern, needed in _patterns():
        if needed <= traits and (matches := molecule.GetSubstructMatches(pattern)):
            groups.append((group, len({frozenset(match[:2]) for match in matches})))
    return groups
