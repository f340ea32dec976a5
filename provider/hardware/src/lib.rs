//! Keys that live in a TPM or a Secure Enclave, what vouches for them, and the hardening of the process.
