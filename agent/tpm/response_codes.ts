/** TPM_RC (TPM 2.0 Library Part 2, TPM_RC values and "Response Codes"): names and what they mean to who reads the message. */

/** Format zero with bit 8: errors of TPM 2.0 without a parameter, handle or session. The low seven bits. */
const plain: Record<number, readonly [string, string]> = {
  0: ['INITIALIZE', 'the TPM is not started, or was started before'],
  1: ['FAILURE', 'the TPM is in failure mode; reset it'],
  3: ['SEQUENCE', 'a sequence handle was used wrongly'],
  11: ['PRIVATE', 'the private area is not accepted'],
  25: ['HMAC', 'the key is not one for HMAC'],
  32: ['DISABLED', 'the command is disabled'],
  33: ['EXCLUSIVE', 'an audit sequence required exclusivity'],
  36: ['AUTH_TYPE', 'the handle is not authorised in this way'],
  37: ['AUTH_MISSING', 'an authorisation is missing'],
  38: ['POLICY', 'a policy command does not fit the session'],
  39: ['PCR', 'the PCR check failed'],
  40: ['PCR_CHANGED', 'a PCR changed since it was checked'],
  45: ['UPGRADE', 'the TPM is in field upgrade mode'],
  46: ['TOO_MANY_CONTEXTS', 'the context counter is at its maximum'],
  47: ['AUTH_UNAVAILABLE', 'the authorisation value is not available here'],
  48: ['REBOOT', 'the TPM wants a restart first'],
  49: ['UNBALANCED', 'the hash and the key size do not fit each other'],
  66: ['COMMAND_SIZE', 'the size of the command is not what it says'],
  67: ['COMMAND_CODE', 'the TPM does not know the command'],
  68: ['AUTHSIZE', 'the size of the authorisation area is wrong'],
  69: ['AUTH_CONTEXT', 'the command takes no authorisation'],
  70: ['NV_RANGE', 'the offset and size are beyond the NV index'],
  71: ['NV_SIZE', 'the size is not allowed for the NV index'],
  72: ['NV_LOCKED', 'the NV index is locked'],
  73: ['NV_AUTHORIZATION', 'the NV index may not be used with this authorisation'],
  74: ['NV_UNINITIALIZED', 'the NV index was never written'],
  75: ['NV_SPACE', 'the TPM has no NV space left'],
  76: ['NV_DEFINED', 'the NV index exists already'],
  80: ['BAD_CONTEXT', 'the saved context is not valid'],
  81: ['CPHASH', 'the command is not the one that was authorised'],
  82: ['PARENT', 'the parent is not a parent'],
  83: ['NEEDS_TEST', 'the TPM wants to test itself first'],
  84: ['NO_RESULT', 'the TPM cannot compute a result'],
  85: ['SENSITIVE', 'the sensitive area did not unmarshal'],
}

/** Format one (bit 7): errors that name a parameter, handle or session. The low six bits. */
const located: Record<number, readonly [string, string]> = {
  1: ['ASYMMETRIC', 'the TPM does not have this asymmetric algorithm'],
  2: ['ATTRIBUTES', 'the attributes do not fit'],
  3: ['HASH', 'the TPM does not have this hash'],
  4: ['VALUE', 'a value is out of range or does not fit'],
  5: ['HIERARCHY', 'the hierarchy is not enabled or not right for this'],
  7: ['KEY_SIZE', 'the key size is not supported'],
  8: ['MGF', 'the mask generation function is not supported'],
  9: ['MODE', 'the mode is not supported'],
  10: ['TYPE', 'the type of the object does not fit'],
  11: ['HANDLE', 'the handle does not exist or does not fit'],
  12: ['KDF', 'the key derivation function is not supported'],
  13: ['RANGE', 'a value is out of its range'],
  14: ['AUTH_FAIL', 'the authorisation value is wrong, and the failure was counted'],
  15: ['NONCE', 'the nonce has a wrong size'],
  16: ['PP', 'physical presence is required'],
  18: ['SCHEME', 'the scheme is not supported or does not fit the key'],
  21: ['SIZE', 'a structure has the wrong size'],
  22: ['SYMMETRIC', 'the symmetric algorithm is not supported or does not fit'],
  23: ['TAG', 'a structure has the wrong tag'],
  24: ['SELECTOR', 'a union has the wrong selector'],
  26: ['INSUFFICIENT', 'a structure ends too early'],
  27: ['SIGNATURE', 'the signature is not valid'],
  28: ['KEY', 'the key does not fit its use'],
  29: ['POLICY_FAIL', 'the policy of the key is not fulfilled'],
  31: ['INTEGRITY', 'the integrity check failed: made for another key or changed on the way'],
  32: ['TICKET', 'the ticket is not valid: a restricted key signs nothing that looks as if a TPM had made it'],
  33: ['RESERVED_BITS', 'reserved bits are set'],
  34: ['BAD_AUTH', 'the authorisation value is wrong'],
  35: ['EXPIRED', 'the policy has expired'],
  36: ['POLICY_CC', 'the policy is for another command'],
  37: ['BINDING', 'the public and the sensitive area do not belong together'],
  38: ['CURVE', 'the TPM does not have this curve'],
  39: ['ECC_POINT', 'the point is not on the curve'],
}

/** Warnings (format zero with bit 11): the command may do later or after something was freed. The low seven bits. */
const warnings: Record<number, readonly [string, string]> = {
  1: ['CONTEXT_GAP', 'the gap of saved contexts is too large'],
  2: ['OBJECT_MEMORY', 'the TPM has no room for another key; flush unused ones (tpm2_flushcontext -t)'],
  3: ['SESSION_MEMORY', 'the TPM has no room for another session; flush unused ones (tpm2_flushcontext -l)'],
  4: ['MEMORY', 'the TPM is out of memory'],
  5: ['SESSION_HANDLES', 'the TPM has no session handle left; flush unused sessions'],
  6: ['OBJECT_HANDLES', 'the TPM has no object handle left; flush unused keys'],
  7: ['LOCALITY', 'the locality is not allowed'],
  8: ['YIELDED', 'the TPM gave way to something else; send the command again'],
  9: ['CANCELED', 'the command was cancelled'],
  10: ['TESTING', 'the TPM is testing itself; send the command again'],
  16: ['REFERENCE_H0', 'the first handle is not loaded'],
  17: ['REFERENCE_H1', 'the second handle is not loaded'],
  18: ['REFERENCE_H2', 'the third handle is not loaded'],
  24: ['REFERENCE_S0', 'the first session is not loaded'],
  25: ['REFERENCE_S1', 'the second session is not loaded'],
  26: ['REFERENCE_S2', 'the third session is not loaded'],
  32: ['NV_RATE', 'the TPM limits how often its NV memory is written; try later'],
  33: ['LOCKOUT', 'the TPM locked itself against guessing; wait, or clear the lockout with its authorisation'],
  34: ['RETRY', 'the TPM could not start the command; send it again'],
  35: ['NV_UNAVAILABLE', 'the NV memory is not accessible now; try later'],
}

export const rc = {
  INITIALIZE: 0x100,
  OBJECT_MEMORY: 0x902,
  SESSION_MEMORY: 0x903,
  YIELDED: 0x908,
  TESTING: 0x90a,
  LOCKOUT: 0x921,
  RETRY: 0x922,
} as const

/** The name of a response code, `TPM_RC_...`, and a sentence on it; where a parameter, handle or session is at fault, the sentence names it. */
export function explain(code: number): { readonly symbol: string; readonly sentence: string } {
  if (code > 0xfff) return { symbol: 'LAYER', sentence: `the software below, not the TPM, answered ${hex(code)}` }
  const [name, sentence] = lookUp(code) ?? ['UNKNOWN', 'the TPM answered with a code that is not in the specification']
  return { symbol: `TPM_RC_${name}`, sentence: `${sentence}${placeOf(code)}` }
}

export const hex = (code: number): string => `0x${code.toString(16)}`

function lookUp(code: number): readonly [string, string] | undefined {
  if (code & 0x80) return located[code & 0x3f]
  if (code & 0x400) return ['VENDOR', 'the TPM answered with a code of its maker']
  return code & 0x800 ? warnings[code & 0x7f] : plain[code & 0x7f]
}

/** Which parameter, session or handle; the TPM may leave the number out. */
function placeOf(code: number): string {
  const number = (code >> 8) & (code & 0x40 ? 0xf : 0x7)
  if (!(code & 0x80) || number === 0) return ''
  const what = code & 0x40 ? 'parameter' : code & 0x800 ? 'session' : 'handle'
  return ` (${what} ${number})`
}
