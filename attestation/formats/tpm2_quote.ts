import type { Format } from './format.ts'

/** TPM 2.0 quotes by an attestation key that was enrolled: `verifyQuote` judges them, `admitAk` and `verifyEk` what comes before. */
export const tpm2Quote: Format = { name: 'tpm2-quote', title: 'TPM 2.0 quotes by an enrolled attestation key' }
