/**
 * Every reason for which evidence is refused, once. A row says what was wrong and what the operator or the attester can do
 * about it. Codes serve the audit log, the tests and the documentation, which is generated from this table.
 */
export const refusals = {
  // challenge
  NONCE_MISMATCH: row(
    'freshness',
    'the quote does not answer this challenge in this request',
    'take a new challenge and quote it',
  ),
  // structure
  BAD_MAGIC: row(
    'structure',
    'the attested structure was not made by a TPM',
    'send the bytes of TPMS_ATTEST as the TPM returned them',
  ),
  NOT_A_QUOTE: row('structure', 'the attested structure is not a quote', 'answer the challenge with TPM2_Quote'),
  NOT_A_CERTIFICATION: row(
    'structure',
    'the attested structure does not certify a key',
    'certify the key to bind with TPM2_Certify, by the attestation key',
  ),
  TRUNCATED: row('structure', 'a structure ends before its declared size', 'send the structure whole'),
  TRAILING_DATA: row('structure', 'bytes follow the end of a structure', 'send the structure without anything after it'),
  BAD_ENCODING: row('structure', 'a field holds a value that its type does not allow', 'send the bytes as the TPM returned them'),
  LIMIT: row('structure', 'an input or a count is above its limit', 'send less; the limits are in the documentation'),
  EMPTY_SELECTION: row('structure', 'the quote covers no PCR', 'quote the PCRs that the challenge names'),
  DUPLICATE_BANK: row('structure', 'a PCR bank is selected twice', 'select every bank once'),
  UNSUPPORTED_ALG: row(
    'structure',
    'an algorithm is unknown or not accepted here',
    'use RSASSA, RSAPSS or ECDSA with SHA-256 or SHA-384',
  ),
  // documents
  KIND: row('document', 'the document is of another kind of machine', 'log in with a role for this kind'),
  STALE_DOCUMENT: row('document', 'the document is too old, or from the future', 'make a new document, and look at the clocks'),
  DEBUG: row('document', 'others may look into the machine: it runs in debug mode', 'run it without debug mode'),
  // PCRs
  BAD_PCR_TABLE: row('pcr', 'the table of PCR values is malformed', 'send one member per PCR, "0" to "23", with the hex digest'),
  PCR_SELECTION_MISMATCH: row(
    'pcr',
    'the table of PCR values and the signed selection differ',
    'send exactly the PCRs that were quoted',
  ),
  PCR_NOT_QUOTED: row('pcr', 'a required PCR is not in the signed selection', 'quote the PCRs that the challenge names'),
  PCR_DIGEST_MISMATCH: row(
    'pcr',
    'the PCR values do not hash to the signed digest',
    'read the PCRs and quote them while nothing extends them',
  ),
  PCR_POLICY: row(
    'pcr',
    'a PCR does not have a value that the reference values allow',
    'compare the machine with its reference values',
  ),
  WEAK_BANK: row('pcr', 'only a SHA-1 bank, or not the required bank, was quoted', 'activate and quote a SHA-256 bank'),
  // signature and keys
  SIGNATURE: row('key', 'the signature does not verify under the attestation key', 'sign with the enrolled attestation key'),
  SCHEME_MISMATCH: row('key', 'the signature scheme is not the one of the attestation key', 'sign with the scheme of the key'),
  WEAK_HASH: row('key', 'a signature uses SHA-1 or weaker', 'make a new key whose scheme uses SHA-256 or better'),
  WEAK_KEY: row(
    'key',
    'a key is too small or of a known weak kind',
    'make a new key: RSA 2048 to 4096 with exponent 65537, P-256 or P-384',
  ),
  BAD_KEY: row('key', 'a public area is not a valid key of its kind', 'send the TPMT_PUBLIC as the TPM returned it'),
  AK_ATTRIBUTES: row(
    'key',
    'the key is no attestation key: attributes or scheme do not fit',
    'make a restricted, fixed, signing key',
  ),
  QUALIFIED_SIGNER: row(
    'key',
    'the key lives elsewhere than it was enrolled for',
    'enrol the key under the hierarchy in which it is',
  ),
  // keys to bind
  KEY_ATTRIBUTES: row(
    'key',
    'the key to bind could leave the TPM, came from outside of it, or attests',
    'make a signing key in the TPM that is fixed there and not restricted',
  ),
  KEY_NAME: row('key', 'the TPM certified another key than the one that was sent', 'send the public area of the certified key'),
  KEY_PARENT: row(
    'key',
    'the key to bind lives under a parent that was not sent or is no storage key of the TPM',
    'send the public area of the primary key that it was made under',
  ),
  // endorsement
  EK_TEMPLATE: row(
    'endorsement',
    'the endorsement key was not made from a TCG template',
    'use the default endorsement key of the TPM',
  ),
  EK_MISMATCH: row(
    'endorsement',
    'the endorsement key is not the key in its certificate',
    'send the certificate of this endorsement key',
  ),
  NO_EK_CERT: row(
    'endorsement',
    'no endorsement certificate was sent',
    'send the certificate, or have the operator register the TPM',
  ),
  CERT_EXPIRED: row(
    'endorsement',
    'a certificate is expired or not yet valid',
    'check the clock, or ask the maker for a new certificate',
  ),
  NOT_A_CA: row('endorsement', 'a certificate was issued by something that is no CA', 'send the intermediates of the maker'),
  PATH_LEN: row('endorsement', 'the chain is longer than a CA in it allows', 'send the intermediates of the maker'),
  UNKNOWN_CRITICAL_EXT: row('endorsement', 'a certificate has a critical extension that is not understood', 'ask the maker'),
  NAME_CONSTRAINTS: row('endorsement', 'a name is outside of what a CA in the chain may certify', 'ask the maker'),
  BAD_CHAIN: row(
    'endorsement',
    'the certificate does not lead to a trust anchor',
    'write the root of the maker as a trust anchor',
  ),
  EKU: row('endorsement', 'the certificate is not one for an endorsement key', 'send the endorsement certificate'),
  EK_CERTIFICATE: row(
    'endorsement',
    'the certificate does not follow the EK credential profile',
    'send the endorsement certificate of the TPM',
  ),
  MAKER_MISMATCH: row(
    'endorsement',
    'the TPM is of a maker that is not accepted here',
    'allow the maker in the configuration, if this is intended',
  ),
  NO_CRL: row(
    'endorsement',
    'a CA of the chain has no current revocation list here',
    'have the operator write the list of the CA under crl/',
  ),
  REVOKED: row('endorsement', 'a certificate was revoked by its issuer', 'replace the TPM'),
  // clock
  CLOCK_REPLAY: row('clock', 'the clock of the TPM did not move forward since the last accepted quote', 'make a new quote'),
  CLOCK_NOT_SAFE: row(
    'clock',
    'the TPM reports that its clock may have gone back',
    'try again later: it was not shut down before this start, and says so for up to 70 minutes',
  ),
  OLD_BOOT: row('clock', 'the quote comes from an older boot than the last accepted quote', 'make a new quote'),
  FIRMWARE_CHANGED: row('clock', 'the firmware of the TPM changed since the last accepted quote', 'enrol the machine again'),
  // logs
  LOG_MISSING: row(
    'log',
    'no log of measurements was sent',
    'send the event log of the firmware, or the list of IMA, with the quote',
  ),
  LOG_MISMATCH: row(
    'log',
    'the log does not explain the quoted value of a PCR',
    'send the whole log of this boot, or pin the PCR where the firmware does not log what it measures',
  ),
  LOG_AMBIGUOUS: row('log', 'the log can be read in more than one way', 'send the log as the firmware wrote it'),
  EVENT_DATA_DIGEST: row('log', 'the data of an event is not what was measured', 'send the log as it was written'),
  EVENT_SEMANTICS: row(
    'log',
    'an event stands where the firmware does not measure such a thing',
    'send the log as it was written',
  ),
  // reference values beyond those of PCRs
  TPM_FIRMWARE: row(
    'reference',
    'the firmware of the TPM is not one of those that the reference values allow',
    'update the firmware of the TPM, or have the operator allow this version',
  ),
  SECURE_BOOT: row(
    'reference',
    'secure boot is off, or not as the reference values want it',
    'switch secure boot on, with the keys that the reference values name',
  ),
  BOOT_IMAGE: row(
    'reference',
    'a boot loader, driver, kernel or file of the boot loader is not one that the reference values allow',
    'boot what is released, or have the operator allow what was measured',
  ),
  COMMAND_LINE: row(
    'reference',
    'the command line of the kernel is not one that the reference values allow',
    'boot with the released command line',
  ),
  IMA_FILE: row(
    'reference',
    'a file was used that the reference values do not list',
    'boot again without the file, or have the operator list it',
  ),
} as const satisfies Record<string, Row>

export type Refusal = keyof typeof refusals
export type Family = 'freshness' | 'structure' | 'pcr' | 'key' | 'endorsement' | 'clock' | 'log' | 'reference' | 'document'
type Row = { readonly family: Family; readonly means: string; readonly next: string }

function row(family: Family, means: string, next: string): Row {
  return { family, means, next }
}
