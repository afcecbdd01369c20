"""Tokens that are asked with, and the keys that they are verified with: made once for each algorithm."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

# More than the verified tokens that Doorward remembers: asked one after the other, each is verified anew.
COUNT = 40_000
SECRET = b"a secret of the bench that is as long as a digest is."
KINDS = {"RS256": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "ES256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]}


@dataclass(frozen=True)
class Signed:
    """Those of one algorithm."""

    tokens: Path  # one a line
    keys: Path  # JWKS
    verifies: str  # for HAProxy: the file of the public key, or the secret

    def first(self):
        with open(self.tokens) as lines:
            return lines.readline().strip()


class Tokens:
    """Makes them when they are first asked for."""

    def __init__(self, program, folder):
        self.program, self.folder, self.made = program, folder, {}

    def of(self, algorithm):
        if algorithm not in self.made:
            self.made[algorithm] = self.make(algorithm)
        return self.made[algorithm]

    def make(self, algorithm):
        folder = self.folder / f"tokens-{algorithm}"
        folder.mkdir()
        key, verifies = folder / "key", SECRET.decode()
        if algorithm in KINDS:
            subprocess.run(["openssl", "genpkey", "-algorithm", *KINDS[algorithm], "-out", str(key)], check=True, capture_output=True)
            verifies = str(folder / "public.pem")
            subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", verifies], check=True, capture_output=True)
        else:
            key.write_bytes(SECRET)
        subprocess.run([str(self.program), algorithm, str(COUNT), str(key), str(folder)], check=True, capture_output=True)
        return Signed(folder / "tokens", folder / "keys.json", verifies)
