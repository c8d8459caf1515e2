"""The sketcher of the page: OpenChemLib's editor with a labelled button for each of its tools."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "static" / "openchemlib"

# Label, what it does, and its place (column, row) among the small icons of the editor, which have no labels.
_TOOLS = [
    ("Undo", "Undo", 1, 0),
    ("Clear", "Remove everything", 0, 0),
    ("Erase", "Remove atoms and bonds", 0, 4),
    ("Select", "Select and move atoms", 0, 2),
    ("Tidy", "Arrange the atoms again", 0, 1),
    ("Bond", "Draw a bond, or change its order", 0, 5),
    ("Chain", "Draw a chain", 1, 5),
    ("Wedge", "Draw a bond towards you", 0, 6),
    ("Hash", "Draw a bond away from you", 1, 6),
    ("Benzene", "Draw a benzene ring", 1, 9),
    *((f"Ring {size}", f"Draw a ring of {size} atoms", (size - 3) % 2, 7 + (size - 3) // 2) for size in range(3, 8)),
    ("+", "Raise the charge of an atom", 0, 10),
    ("\N{MINUS SIGN}", "Lower the charge of an atom", 1, 10),
    *(
        (element, f"Set an atom to {element}", column, row)
        for row, elements in enumerate((("C", "Si"), ("N", "P"), ("O", "S"), ("F", "Cl"), ("Br", "I"), ("H", "")), 11)
        for column, element in enumerate(elements)
        if element
    ),
    ("Other", "Choose another element", 1, 16),
]
_COLUMNS, _ROWS = 2, 17

HTML = '<div class="tools" role="toolbar" aria-label="drawing tools"></div><div class="sketcher"></div>'

# The script is larger than the rest of the page. It is loaded when the sketcher is opened. A button passes its click
# to the icon of its tool, which stays in the editor but is not shown.
SCRIPT = (
    """
const host = element.querySelector('.sketcher');
const bar = element.querySelector('.tools');
const addTools = (icons) => {
  Object.assign(icons.style, { position: 'absolute', left: 0, top: 0, visibility: 'hidden' });
  for (const [label, title, column, row] of TOOLS) {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', textContent: label, title });
    if (title !== label) button.setAttribute('aria-label', `${label}: ${title}`);
    button.addEventListener('click', () => {
      const { left, top, width, height } = icons.getBoundingClientRect();
      const place = { clientX: left + (column + 0.5) * width / COLUMNS, clientY: top + (row + 0.5) * height / ROWS };
      for (const type of ['pointerdown', 'pointerup'])
        icons.dispatchEvent(new PointerEvent(type, { ...place, bubbles: true, composed: true, pointerId: 1 }));
      if (!['Undo', 'Clear', 'Tidy'].includes(label))
        for (const other of bar.children) other.setAttribute('aria-pressed', other === button);
    });
    button.setAttribute('aria-pressed', label === 'Bond');
    bar.append(button);
  }
};
const start = async () => {
  const { CanvasEditor, Molecule } = await import(new URL(props.module, document.baseURI).href);
  const editor = new CanvasEditor(host, { initialMode: 'molecule' });
  addTools(host.firstElementChild.shadowRoot.querySelector('canvas'));
  let drawn = '';
  editor.setOnChangeListener(({ type, isUserEvent }) => {
    if (type !== 'molecule' || !isUserEvent) return;
    drawn = props.value = editor.getMolecule().toIsomericSmiles();
    trigger('change');
  });
  const show = () => {
    if (!props.value || props.value === drawn) return;
    try { editor.setMolecule(Molecule.fromSmiles(props.value)); } catch { return; }
    drawn = props.value;
  };
  watch('value', show);
  show();
};
new IntersectionObserver((entries, observer) => {
  if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); start(); }
}).observe(host);
""".replace("TOOLS", json.dumps(_TOOLS))
    .replace("COLUMNS", str(_COLUMNS))
    .replace("ROWS", str(_ROWS))
)

STYLE = """
.tools { display: flex; flex-wrap: wrap; gap: 4px; margin-bottom: 6px; }
.tools button { min-width: 40px; height: 36px; padding: 0 8px; font-size: 14px; border-radius: 6px; cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary);
  color: var(--body-text-color); }
.tools button[aria-pressed="true"] { border-color: #2563eb; box-shadow: inset 0 0 0 1px #2563eb; }
.sketcher { position: relative; width: 100%; height: 380px; border: 1px solid var(--border-color-primary);
  background: white; border-radius: 10px; overflow: hidden; }
"""
