import { expect, test } from 'vitest'
import { type BootClaims, bootClaimsOf, eatClaims, type ImaSummary } from '#attestation'

const digest = 'ab'.repeat(32)
const nonce = Buffer.alloc(32, 7)
const quote = {
  resetCount: 7,
  restartCount: 2,
  firmwareVersion: '2024012500120000',
  pcrs: new Map([['sha256', new Map([[0, Buffer.alloc(32, 1)]])]] as const),
}
const plain = { tpmId: `sha256-${digest}`, nonce, quote, obfuscated: false, reference: { name: 'web', version: 3 } }
const boot: BootClaims = {
  bank: 'sha256',
  replayed: [4, 7],
  secureBoot: true,
  databases: { dbx: { digest, entries: [{ type: 'sha256', owner: '', sha256: digest }] } },
  actions: [],
  authorities: [digest],
  images: Array.from({ length: 40 }, () => digest),
}
const ima: ImaSummary = {
  bank: 'sha256',
  entries: 5,
  violations: 0,
  value: digest,
  files: [{ path: '/usr/bin/env', digest }],
  unlisted: { count: 0, files: [] },
}

test('a quote alone: who, how fresh, compared with what', () => {
  expect(eatClaims(plain)).toEqual({
    eat_profile: 'urn:x-assay:eat:tpm2-quote:1',
    eat_nonce: nonce.toString('base64url'),
    ueid: Buffer.concat([Buffer.of(1), Buffer.from(digest, 'hex')]).toString('base64url'),
    bootcount: 7,
    measres: [['tpm2-pcr', [['web@3', 'success']]]],
    tpm2: {
      pcrs: { sha256: { 0: '01'.repeat(32) } },
      firmware_version: '2024012500120000',
      reset_count: 7,
      restart_count: 2,
    },
  })
})

test('a TPM that hides its counters from the key has none to tell as those of the machine', () => {
  expect(eatClaims({ ...plain, obfuscated: true })).not.toHaveProperty('bootcount')
})

test('what logs explained is beside it, long lists in part, with how long they are', () => {
  const claims = eatClaims({ ...plain, boot, ima })
  expect(claims['measres']).toEqual(['tpm2-pcr', 'tcg-event-log', 'ima'].map(system => [system, [['web@3', 'success']]]))
  expect(claims['boot']).toEqual({
    bank: 'sha256',
    replayed: [4, 7],
    secure_boot: true,
    databases: { dbx: digest },
    actions: [],
    authorities: [digest],
    images: Array.from({ length: 32 }, () => digest),
    images_count: 40,
  })
  expect(claims['ima']).toEqual({ bank: 'sha256', entries: 5, violations: 0, value: digest, files: ima.files, unlisted: 0 })
})

test('what is not known is not claimed', () => {
  expect(bootClaimsOf({ bank: 'sha256', replayed: [0] })).toStrictEqual({ bank: 'sha256', replayed: [0] })
})

test('every list of a boot is claimed under its own name, whole up to 32', () => {
  const list = (what: string, length = 32) => Array.from({ length }, (_, at) => `${what} ${at}`)
  const claims = bootClaimsOf({
    bank: 'sha256',
    replayed: [2],
    drivers: list('driver'),
    files: list('file'),
    commandLines: list('command line', 33),
  })
  expect(claims).toStrictEqual({
    bank: 'sha256',
    replayed: [2],
    drivers: list('driver'),
    files: list('file'),
    command_lines: list('command line'),
    command_lines_count: 33,
  })
})

test('it is JSON, and the size of a token whatever a machine measured', () => {
  const many = Array.from({ length: 5000 }, () => digest)
  const large = { ...boot, images: many, files: many, drivers: many, authorities: many, commandLines: many }
  const text = JSON.stringify(eatClaims({ ...plain, boot: large, ima }))
  expect(text.length).toBeLessThan(16_384)
  expect(JSON.parse(text)).toEqual(eatClaims({ ...plain, boot: large, ima }))
})
