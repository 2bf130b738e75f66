"""Sign a generated picture by C2PA, so that others can tell whether it is as it was made, and by whose certificate.

The marks of ``provenance.py`` are written before: a change of the file after signing breaks the signature. No time
server is asked and no thumbnail is put in; nothing leaves this machine. The certificate is the user's own:
digitalSignature for its use and emailProtection for its extended use, as C2PA wants it, with its chain behind it in one
PEM file.
"""

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from clipsearch.errors import InputError, MissingExtraError
from clipsearch.generate.provenance import SOURCE_TYPES, Origin

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
# What a certificate's own key is, by the identifier that stands in it, and what signs with such a key.
_ALGORITHMS = (
    (bytes.fromhex("06082a8648ce3d030107"), "es256"),
    (bytes.fromhex("06052b81040022"), "es384"),
    (bytes.fromhex("06052b81040023"), "es512"),
    (bytes.fromhex("06092a864886f70d010101"), "ps256"),
    (bytes.fromhex("06032b6570"), "ed25519"),
)


@dataclass(frozen=True, slots=True)
class PictureSigner:
    """Signs pictures with a certificate chain and a private key, both PEM."""

    certificate: bytes
    key: bytes

    @property
    def digest(self) -> str:
        """Return the SHA-256 (hex) of the certificate chain."""
        return hashlib.sha256(self.certificate).hexdigest()

    def check(self) -> None:
        """Raise now what would only show when the picture is drawn.

        Raises:
            MissingExtraError: c2pa-python is not installed.
            InputError: certificate or key cannot be used.
        """
        self._signer(_library())

    def sign(self, png: bytes, origin: Origin) -> bytes:
        """Return a PNG with a signed manifest that says what made it.

        Raises:
            MissingExtraError: c2pa-python is not installed.
            InputError: certificate or key cannot be used.
        """
        c2pa = _library()
        signed = io.BytesIO()
        try:
            context = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
            builder = c2pa.Builder(json.dumps(_manifest(origin)), context=context)
            builder.sign(self._signer(c2pa), "image/png", io.BytesIO(png), signed)
        except c2pa.C2paError as problem:
            raise _unusable(problem) from problem
        return signed.getvalue()

    def _signer(self, c2pa: Any) -> Any:  # Any: an extra, which a type checker need not find
        try:
            return c2pa.Signer.from_info(c2pa.C2paSignerInfo(self._algorithm(), self.certificate, self.key, None))
        except c2pa.C2paError as problem:
            raise _unusable(problem) from problem

    def _algorithm(self) -> str:
        found = _PEM.search(self.certificate)
        try:
            own = base64.b64decode(found[1]) if found else b""
        except ValueError:
            own = b""
        for identifier, algorithm in _ALGORITHMS:
            if identifier in own:
                return algorithm
        raise InputError(
            "The certificate holds no EC, RSA or Ed25519 key in PEM form.\n"
            "Give a PEM file with the signing certificate first and its chain behind it."
        )


def read_signer(certificate: str, key: str) -> PictureSigner:
    """Return what signs with the files of a certificate chain and of its private key.

    Raises:
        InputError: one cannot be read.
    """
    parts: list[bytes] = []
    for what, path in (("certificate", certificate), ("key", key)):
        try:
            with open(path, "rb") as file:
                parts.append(file.read())
        except OSError as problem:
            raise InputError(f"The {what} {path} cannot be read: {problem.strerror}. Give a PEM file.") from None
    return PictureSigner(*parts)


def _manifest(origin: Origin) -> dict[str, Any]:  # Any: JSON
    name, _, version = origin.software.partition(" ")
    action = {
        "action": "c2pa.created",  # also where it began with a picture, which the source type says
        "digitalSourceType": SOURCE_TYPES + origin.source_type,
        "softwareAgent": {"name": origin.generator},
    }
    return {
        "claim_generator_info": [{"name": name, "version": version or "0"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }


def _library() -> Any:  # Any: as above
    try:
        return import_module("c2pa")
    except ImportError as problem:
        raise MissingExtraError(
            f"Signing a picture needs c2pa-python, which this Python lacks: {problem}.\n"
            "Install with: pip install 'clipsearch[c2pa]'\n"
            "Without a signature: leave out --sign-with."
        ) from None


def _unusable(problem: Exception) -> InputError:
    why = " ".join(str(problem).split())[:200]
    return InputError(
        f"The picture cannot be signed with this certificate and key: {why}.\n"
        "The certificate must allow digitalSignature and emailProtection and come with its chain; the key must be its "
        "own."
    )
