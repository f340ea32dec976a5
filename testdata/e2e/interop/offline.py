"""Verifies a `.tlog-proof` with software that knows nothing of Glassbloom.

    offline.py PROOF ENTRY LOG_VKEY LOG_MLDSA_VKEY WITNESS_VKEY WITNESS_MLDSA_VKEY

`proofbundle` checks the proof, the log's Ed25519 signature and both cosignatures of the witness, and must refuse what
was altered. It knows no logs that sign with ML-DSA, so that line is checked against the text of c2sp.org/tlog-cosignature with
`cryptography` alone.
"""

import base64
import hashlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from proofbundle.tlogproof import parse_tlog_proof, verify_tlog_proof


def main(proof_file, entry_file, log_vkey, mldsa_vkey, *witness_vkeys):
    text = open(proof_file, encoding="utf-8", newline="").read()
    entry = open(entry_file, "rb").read()
    origin = log_vkey.split("+", 1)[0]

    def verify(text=text, entry=entry, log=log_vkey, witnesses=witness_vkeys, threshold=2, origin=origin):
        return verify_tlog_proof(text, entry, log, witnesses, threshold=threshold, expected_origin=origin)

    result = verify()
    assert result["ok"] and result["log_ok"] and result["witnesses_ok"] and result["inclusion_ok"], result
    print(f"proofbundle: entry {result['index']} of {result['tree_size']} in {result['origin']}")

    assert not verify(entry=entry + b"x")["ok"], "an altered entry"
    assert not verify(entry=bytes([entry[0] ^ 1]) + entry[1:])["inclusion_ok"], "a flipped bit"
    for one in witness_vkeys:
        assert verify(witnesses=(one,), threshold=1)["ok"], "each cosignature by itself"
        assert not verify(witnesses=(one,))["ok"], "one key is not two"
    assert not verify(witnesses=())["ok"], "no witness at all"
    assert not verify(log=witness_vkeys[0])["ok"], "another key"
    assert not verify(origin=origin + "x")["ok"], "another log"
    index = next(line for line in text.split("\n") if line.startswith("index "))
    assert not verify(text=text.replace(index, f"index {result['index'] ^ 1}", 1))["ok"], "another place"
    print("proofbundle: refuses an altered entry, place, log, key and too few witnesses")

    checkpoint = parse_tlog_proof(text)["checkpoint"]
    assert mldsa_signed(checkpoint, mldsa_vkey)
    body = checkpoint.split("\n\n", 1)[0]
    size = body.split("\n")[1]
    assert not mldsa_signed(checkpoint.replace(f"\n{size}\n", f"\n{int(size) + 1}\n", 1), mldsa_vkey)
    print("cryptography: the ML-DSA-44 signature holds, and not for another size")


def mldsa_signed(checkpoint, vkey):
    """Whether a checkpoint has a line by this ML-DSA-44 key of its log. [c2sp.org/tlog-cosignature]"""
    # The base64 of a key may have plus signs in it.
    name, key_id, blob = vkey.split("+", 2)
    blob = base64.b64decode(blob, validate=True)
    assert blob[0] == 6 and len(blob) == 1 + 1312
    key_hash = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4]
    assert key_hash.hex() == key_id
    body, signatures = checkpoint.split("\n\n", 1)
    origin, size, root = body.split("\n")
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if dash != "\u2014" or signer != name or signature[:4] != key_hash:
            continue
        time, signature = signature[4:12], signature[12:]
        assert time == bytes(8) and len(signature) == 2420, "a log leaves the time zero"
        message = (
            b"subtree/v1\n\0"
            + bytes([len(name.encode())]) + name.encode()
            + time
            + bytes([len(origin.encode())]) + origin.encode()
            + (0).to_bytes(8, "big") + int(size).to_bytes(8, "big")
            + base64.b64decode(root, validate=True)
        )
        try:
            MLDSA44PublicKey.from_public_bytes(blob[1:]).verify(signature, message)
            return True
        except InvalidSignature:
            return False
    raise SystemExit("no line by the ML-DSA key")


if __name__ == "__main__":
    main(*sys.argv[1:])
