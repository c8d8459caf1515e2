"""Colours and CSS of the page."""

# The colour of the atom that raised the score most: red, green and blue in [0, 1].
RAISED_COLOUR = (0.30, 0.78, 0.45)

CARD_STYLE = """
.hits { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 235px), 1fr)); gap: 14px; }
.hit { border: 1px solid var(--border-color-primary); border-radius: 10px; overflow: hidden; min-width: 0;
  background: var(--background-fill-primary); display: flex; flex-direction: column; }
.hit img, .drawn img { display: block; width: 100%; background: white; }
.hit .undrawn { background: white; color: #555; padding: 30px 12px; text-align: center; }
.hit .text { padding: 10px 12px 12px; overflow-wrap: anywhere; line-height: 1.4; font-size: 14px; }
.hit .head { display: flex; justify-content: space-between; gap: 8px; font-weight: 600; font-size: 15px; }
.hit .score { font-variant-numeric: tabular-nums; white-space: nowrap; }
.hit .plain { opacity: 0.75; font-size: 13px; }
.hit sub, .hit sup, .drawn sub, .drawn sup { font-size: 0.75em; line-height: 0; }
.hit .smiles { font-family: ui-monospace, monospace; font-size: 12px; opacity: 0.75; }
.hit .caption { margin-top: 6px; }
.hit summary { cursor: pointer; list-style: none; }
.hit summary::-webkit-details-marker { display: none; }
.hit summary b { color: var(--link-text-color); font-weight: 500; }
.hit details[open] summary { display: none; }
.captions { grid-template-columns: minmax(0, 1fr); }
.captions .hit { flex-direction: row; }
.captions .hit > .picture { flex: 0 0 min(34%, 200px); background: white; align-content: center; }
.captions .hit > .text { flex: 1; min-width: 0; }
.drawn img { max-width: 420px; border: 1px solid var(--border-color-primary); border-radius: 10px; }
.note { margin: 0 0 10px; opacity: 0.8; font-size: 14px; overflow-wrap: anywhere; }
.note .save { margin-left: 10px; white-space: nowrap; }
.message { border-left: 4px solid #2563eb; padding: 8px 12px; background: var(--background-fill-secondary);
  border-radius: 6px; overflow-wrap: anywhere; }
.message.error { border-left-color: #d97706; }
.raised { display: inline-block; width: 0.9em; height: 0.9em; border-radius: 50%; background: rgb(77, 199, 115);
  vertical-align: -0.1em; }
"""

PAGE_STYLE = """
.gradio-container { width: 100%; min-width: 0 !important; max-width: 1180px !important; margin: 0 auto !important; }
.gallery-item { max-width: 100%; }
.gallery-item .gallery { white-space: normal; text-align: left; }
@media (max-width: 640px) { .gradio-container > .main { padding: 10px !important; } }
"""
