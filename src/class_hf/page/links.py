"""Links to a search: the fields of the page in the part of the address after #, which browsers do not send."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

# The fields of the page that a link holds, in the order of the page's `FILL`.
FIELDS = (
    "pool", "k", "bank", "min_weight", "max_weight", "elements", "substructure", "ignore_stereo", "where", "text",
    "smiles", "find",
)  # fmt: skip


def fragment(fields: Mapping[str, Any]) -> str:
    """The part of an address that holds the fields. Empty fields are left out.

    Args:
        fields: values by the names of `FIELDS`.

    >>> fragment({"text": "an ester & more", "k": 5, "where": None, "ignore_stereo": False})
    '#text=an%20ester%20%26%20more&k=5'
    """
    filled = {name: value for name, value in fields.items() if value not in (None, "", False)}
    return "#" + urlencode({name: 1 if value is True else value for name, value in filled.items()}, quote_via=quote)


# Fills the page from its address. It gets and returns the values of `FIELDS`, then the selected tab and two tickets: a
# ticket that changes starts the search of its tab.
# The second click of a double click is dropped, because no field has changed since the first: it would search again.
FILL = """
(...values) => {
  const link = new URLSearchParams(location.hash.slice(1));
  window.addEventListener('hashchange', () => location.reload());
  window.addEventListener('click', (event) => {
    if (event.detail > 1 && event.target.closest('#find, #ask')) event.stopImmediatePropagation();
  }, { capture: true });
  const names = NAMES;
  const read = (name, value) => {
    if (!link.has(name)) return value;
    const text = link.get(name);
    if (['k', 'min_weight', 'max_weight'].includes(name)) return Number(text);
    return ['bank', 'ignore_stereo'].includes(name) ? text === '1' : text;
  };
  const filled = names.map((name, place) => read(name, values[place]));
  const ticket = (name) => link.get(name) ? String(Date.now()) : '';
  const tab = { selected: link.has('smiles') ? 'molecule' : 'text', __type__: 'update' };
  return [...filled, tab, ticket('text'), ticket('smiles')];
}
""".replace("NAMES", json.dumps(FIELDS))


# A script that returns nothing leaves its output as it is. One that returned the old value could undo what came since.


def on_search(results: str, colour: int) -> str:
    """The script that runs when a search starts: it notes the time, and asks for an answer without colours.

    Args:
        results: the id of the element with the results.
        colour: the place of the colours among the fields.
    """
    return f"""
(...values) => {{
  window.lastSearches = {{...window.lastSearches, '{results}': Date.now()}};
  return values.toSpliced({colour}, 1, false);
}}
"""


def after_search(results: str) -> str:
    """The script that runs after a search: it sets the address of the page, and asks for colours if they are wanted.

    Args:
        results: the id of the element with the results.
    """
    return f"""
(wanted) => {{
  const link = document.querySelector('#{results} a.link');
  if (link) history.replaceState(null, '', link.getAttribute('href'));
  if (wanted && document.querySelector('#{results} .hit')) return String(Date.now());
}}
"""


def on_colour(results: str) -> str:
    """The script that runs when colours are switched on or off: it repeats a search whose results are shown.

    Args:
        results: the id of the element with the results.
    """
    return f"() => {{ if (document.querySelector('#{results} .hit')) return String(Date.now()); }}"


def after_colours(results: str) -> str:
    """The script that runs after an answer to a ticket: it shows the answer, unless a search has started since.

    Colours are for both tabs. The address of the page stays that of the tab that is shown.

    Args:
        results: the id of the element with the results.
    """
    return f"""
(answer, ticket) => {{
  if ((window.lastSearches?.['{results}'] ?? 0) > Number(ticket)) return;
  const link = new DOMParser().parseFromString(answer, 'text/html').querySelector('a.link');
  const isShown = document.querySelector('#{results}')?.checkVisibility();
  if (link && isShown) history.replaceState(null, '', link.getAttribute('href'));
  return answer;
}}
"""
