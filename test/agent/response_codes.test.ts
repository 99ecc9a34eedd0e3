import { expect, test } from 'vitest'
import { explain } from '../../agent/tpm/response_codes.ts'
import { run } from '../harness/process.ts'

/** Code, our name, the words of tpm2-tss and what it says is at fault. */
const CODES: [number, string, string, string][] = [
  [0x100, 'INITIALIZE', ' TPM not initialized', ''],
  [0x101, 'FAILURE', ' commands not being accepted because of a TPM failure', ''],
  [0x120, 'DISABLED', ' the command is disabled', ''],
  [0x126, 'POLICY', ' policy failure', ''],
  [0x12f, 'AUTH_UNAVAILABLE', ' authValue or authPolicy is not available', ''],
  [0x142, 'COMMAND_SIZE', ' command commandSize value is inconsistent', ''],
  [0x143, 'COMMAND_CODE', ' command code not supported', ''],
  [0x148, 'NV_LOCKED', ' NV access locked', ''],
  [0x149, 'NV_AUTHORIZATION', ' NV access authorization fails', ''],
  [0x14a, 'NV_UNINITIALIZED', ' an NV Index is used before being initialized', ''],
  [0x14b, 'NV_SPACE', ' insufficient space for NV allocation', ''],
  [0x902, 'OBJECT_MEMORY', ' out of memory for object contexts', ''],
  [0x903, 'SESSION_MEMORY', ' out of memory for session contexts', ''],
  [0x905, 'SESSION_HANDLES', ' out of session handles', ''],
  [0x908, 'YIELDED', ' the TPM has suspended operation', ''],
  [0x90a, 'TESTING', ' TPM is performing selftests', ''],
  [0x910, 'REFERENCE_H0', ' the 1st handle', ''],
  [0x918, 'REFERENCE_S0', ' the 1st authorization session handle', ''],
  [0x921, 'LOCKOUT', ' authorizations for objects subject to DA protection', ''],
  [0x922, 'RETRY', ' the TPM was not able to start the command', ''],
  [0x923, 'NV_UNAVAILABLE', ' the command may require writing of NV', ''],
  [0x18b, 'HANDLE', 'the handle is not correct', 'handle1'],
  [0x1d2, 'SCHEME', 'unsupported or incompatible scheme', 'parameter1'],
  [0x1d8, 'SELECTOR', 'union selector is incorrect', 'parameter1'],
  [0x1df, 'INTEGRITY', 'integrity check failed', 'parameter1'],
  [0x1e6, 'CURVE', 'curve not supported', 'parameter1'],
  [0x2c4, 'VALUE', 'value is out of range', 'parameter2'],
  [0x38d, 'RANGE', 'value was out of allowed range', 'handle3'],
  [0x3e0, 'TICKET', 'invalid ticket', 'parameter3'],
  [0x98e, 'AUTH_FAIL', 'the authorization HMAC check failed', 'session1'],
  [0x99d, 'POLICY_FAIL', 'a policy check failed', 'session1'],
  [0x9a2, 'BAD_AUTH', 'authorization failure without DA', 'session1'],
  [0x9a4, 'POLICY_CC', 'the commandCode in the policy', 'session1'],
]

test.each(CODES)('%i is TPM_RC_%s, as tpm2_rc_decode has it', async (code, name, words, place) => {
  const { stdout } = await run('tpm2_rc_decode', [`0x${code.toString(16)}`])
  expect(stdout).toContain(`${place.replace(/(\d)/, '($1)')}:${words}`)
  const { symbol, sentence } = explain(code)
  expect([symbol, /\((\S+) (\d)\)$/.exec(sentence)?.slice(1).join('') ?? '']).toEqual([`TPM_RC_${name}`, place])
})

test('a code that did not come from the TPM says so', () => {
  expect(explain(0xb0143).sentence).toContain('the software below')
  expect(explain(0x7f).symbol).toBe('TPM_RC_UNKNOWN')
  expect(explain(0x501).symbol).toBe('TPM_RC_VENDOR')
})
