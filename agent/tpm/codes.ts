/** Numbers of the TPM 2.0 Library, Part 2, that commands need and evidence does not. */

/** TPM_CC of the commands that are sent here. */
export const commandCodes = {
  CreatePrimary: 0x131,
  Startup: 0x144,
  ActivateCredential: 0x147,
  Certify: 0x148,
  NV_Read: 0x14e,
  PolicySecret: 0x151,
  Create: 0x153,
  Load: 0x157,
  Quote: 0x158,
  Sign: 0x15d,
  FlushContext: 0x165,
  NV_ReadPublic: 0x169,
  PolicyOR: 0x171,
  ReadPublic: 0x173,
  StartAuthSession: 0x176,
  GetCapability: 0x17a,
  GetRandom: 0x17b,
  PCR_Read: 0x17e,
  PCR_Extend: 0x182,
} as const
export type CommandName = keyof typeof commandCodes

/** TPM_ST of commands and responses. */
export const tag = { NO_SESSIONS: 0x8001, SESSIONS: 0x8002, HASHCHECK: 0x8024 } as const

/** Bytes of the header of commands and responses: tag, size, and TPM_CC or TPM_RC. */
export const HEADER_SIZE = 10

/** TPMA_SESSION: `decrypt` has the TPM decrypt the first parameter of the command, `encrypt` has it encrypt that of the response. */
export const sessionAttribute = { continueSession: 0x01, decrypt: 0x20, encrypt: 0x40 } as const

/** TPM_SE */
export const sessionType = { HMAC: 0x00, POLICY: 0x01 } as const

/** TPM_SU_CLEAR */
export const STARTUP_CLEAR = 0x0000

/** TPM_CAP */
export const capability = { HANDLES: 0x1, PCRS: 0x5, TPM_PROPERTIES: 0x6 } as const

/** TPM_PT_NV_BUFFER_MAX: the most bytes that one NV_Read gives. */
export const NV_BUFFER_MAX = 0x12c
