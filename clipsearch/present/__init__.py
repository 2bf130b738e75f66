"""The last room: answers become text, or a picture of pictures.

Nothing here knows where its output goes. Functions take values (hits, results, rows) and give lines, bytes or an
image; the front door writes them. Four forms of an answer:

- ``table``: aligned columns for a person at a terminal, never wider than it;
- ``paths``: file names and nothing else, byte for byte, for other programs;
- ``json_lines``: one object a line, for other programs that want more;
- ``contact_sheet`` and ``preview``: the pictures themselves, as a PNG or in the terminal's own characters.

Names of files come from strangers. What goes to a terminal passes ``text.printable`` first, so that no name can move
the cursor, change colours or break a row.
"""
