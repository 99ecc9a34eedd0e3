/** The commands of a TPM 2.0 (TPM 2.0 Library Part 3) that an attester needs. */
export * from './commands/keys.ts'
export * from './commands/nv.ts'
export * from './commands/pcrs.ts'
export * from './commands/sessions.ts'
export * from './commands/state.ts'
