import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exits } from '../../agent/exits.ts'
import { agent } from '../agent/cli_world.ts'
import { folder } from '../agent/tools.ts'
import { makeCa, named, pem } from '../attestation/certificates.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { ask, done, openWorld, type World } from './world.ts'

let world: World
let tpm: Swtpm
let files: Awaited<ReturnType<typeof folder>>
let enrolling: (...more: string[]) => ReturnType<typeof agent>

beforeAll(async () => {
  world = await openWorld({ tpms: [{}] })
  tpm = world.tpms[0] as Swtpm
  files = await folder()
  await writeFile(files.at('issuer.pem'), tpm.issuerPem)
  await done(world.api('POST', 'sys/auth/tpm-quote', { type: 'tpm-quote' }))
  await done(world.api('POST', 'auth/tpm-quote/config', { enrollment: 'approved', allow_software_tpms: true }))
  const env = { ASSAY_ADDR: world.door.address, ASSAY_TPM: tpm.spec }
  enrolling = (...more) => agent(env, 'enroll', '--intermediate', files.at('issuer.pem'), ...more)
})
afterAll(async () => {
  await files?.[Symbol.asyncDispose]()
  await world?.[Symbol.asyncDispose]()
})

describe('the roots of all makers', () => {
  const root = makeCa(named('Root'))
  const many = Array.from({ length: 1900 }, (_, n) =>
    makeCa(named(`Issuing CA ${n} of a maker with a name of some length`), {}, root),
  )
  const bundle = () => [tpm.rootCaPem, ...many.map(({ certificate }) => pem(certificate))].join('')

  test('are written in one command', async () => {
    await writeFile(files.at('makers.pem'), bundle())
    await world.operator(['write', 'auth/tpm-quote/ca/makers', `certificate=@${files.at('makers.pem')}`])
    const shown = JSON.parse(await world.operator(['read', '-format=json', 'auth/tpm-quote/ca/makers']))
    expect(shown.data.anchors).toHaveLength(1901)
    expect(await world.operator(['list', 'auth/tpm-quote/ca'])).toMatch(/makers/)
  })

  test('all or none of them, with the places of what cannot be read', async () => {
    const broken = `${bundle()}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`
    await writeFile(files.at('broken.pem'), broken)
    const written = world.operator(['write', 'auth/tpm-quote/ca/others', `certificate=@${files.at('broken.pem')}`])
    await expect(written).rejects.toThrow('certificate: number 1902 of the bundle cannot be read; nothing was written')
    expect((await world.api('GET', 'auth/tpm-quote/ca/others')).status).toBe(404)
  })

  test('no other path takes so much', async () => {
    const body = { certificate: await readFile(files.at('makers.pem'), 'utf8') }
    const { token } = { token: world.vault.rootToken }
    expect((await ask(world.door.address, 'POST', 'auth/tpm-quote/config', { token, body })).status).toBe(413)
    expect((await ask(world.door.address, 'POST', 'auth/tpm-quote/enroll', { body })).status).toBe(413)
  })
})

describe('a machine that an operator has to approve of', () => {
  const pending = 'auth/tpm-quote/pending'

  test('waits, is approved by the stock command line, and enrols', async () => {
    const first = await enrolling('--json')
    expect(first).toMatchObject({
      code: exits.pending.code,
      err: expect.stringContaining('waits for the approval of an operator'),
    })
    const { tpm_id: id, status } = JSON.parse(first.out) as Record<string, string>
    expect(status).toBe('pending')
    expect(await world.operator(['list', pending])).toContain(id)
    expect(await world.operator(['read', '-field=state', `${pending}/${id}`])).toBe('waiting')
    const waiting = enrolling('--wait', '60', '--field', 'tpm_id')
    await world.operator(['write', `${pending}/${id}`, 'decision=approve', 'reason=ours'])
    expect(await waiting).toMatchObject({ code: 0, out: `${id}\n` })
    expect(await world.operator(['read', '-field=approval_reason', `auth/tpm-quote/tpm/${id}`])).toBe('ours')
    await expect(world.operator(['list', pending])).rejects.toThrow('No value found')
  })

  test('denied, it is refused until it is forgotten', async () => {
    const { out: id } = await enrolling('--field', 'tpm_id')
    await world.operator(['delete', `auth/tpm-quote/tpm/${id.trim()}`])
    await enrolling()
    await world.operator(['write', `${pending}/${id.trim()}`, 'decision=deny'])
    expect(await enrolling()).toMatchObject({ code: exits.refused.code })
    await world.operator(['delete', `${pending}/${id.trim()}`])
    expect(await enrolling()).toMatchObject({ code: exits.pending.code })
  })
})
