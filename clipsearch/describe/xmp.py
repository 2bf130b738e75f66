"""Tags as an XMP sidecar: keywords (``dc:subject``), as photo programs read them.

The sidecar says of itself that clipsearch wrote it (``xmp:CreatorTool``), and only such a file is ever written over.
"""

import re
from collections.abc import Sequence

_TOOL = "clipsearch"
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/">
   <xmp:CreatorTool>{tool}</xmp:CreatorTool>
   <dc:subject>
    <rdf:Bag>
{items}    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def sidecar(tags: Sequence[str]) -> bytes:
    """Return the content of a sidecar with these keywords."""
    items = "".join(f"     <rdf:li>{_escaped(tag)}</rdf:li>\n" for tag in tags)
    return _PACKET.format(tool=_TOOL, items=items).encode()


def is_ours(content: bytes) -> bool:
    """Tell whether a sidecar was written here, and by nothing since."""
    return b"<xmp:CreatorTool>clipsearch</xmp:CreatorTool>" in content


def _escaped(text: str) -> str:
    return _NO_XML.sub("", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
