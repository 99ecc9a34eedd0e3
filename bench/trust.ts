import { readEkCertificate, validatePath } from '#attestation'
import { openEndorse } from '../engine/attest/endorsements.ts'
import type { AttestConfig } from '../engine/attest/settings.ts'
import { pairOf } from '../test/attestation/attester.ts'
import { certifyEk, makeCa, makeList, NOW, named } from '../test/attestation/certificates.ts'
import { ekAreaOf } from '../test/attestation/endorsed.ts'
import { configure, dataOf, enrol, openTestBroker } from '../test/fakes/broker.ts'
import { heapUsed } from '../test/fakes/heap.ts'
import { fakeMachine } from '../test/fakes/machine.ts'
import { testWorld } from '../test/fakes/world.ts'
import { limitRow, type Row } from './rows.ts'

const MACHINES = 600
const AGAIN = 10_000
const ANCHORS = 1900
const CHALLENGES = 1_000_000
const MEGABYTE = 2 ** 20

const MAKER = 'Infineon Technologies AG'
const root = makeCa(named('Root', MAKER), { kind: 'rsa-2048' })
const issuing = makeCa(named('Issuing', MAKER), { kind: 'rsa-2048' }, root)

/** trust: endorsement certificates among the roots of all makers, and what a flood of challenges leaves behind. */
export async function benchTrust(): Promise<readonly Row[]> {
  const others = Array.from({ length: ANCHORS }, (_, n) => makeCa(named(`Other CA ${n}`)).certificate)
  const trusted = { anchors: [root.certificate, ...others], lists: [makeList(issuing), makeList(root)] }
  return [await coldChain(trusted), await cachedChain(trusted), await flood()]
}

type Trusted = { readonly anchors: readonly Buffer[]; readonly lists: readonly Buffer[] }

/** CPU time of the event loop for each, in ms: what else runs on the machine does not count. The kernel counts it by some milliseconds, so it is taken
 *  over the second half of them all. */
async function cpuMs<Item>(items: readonly Item[], run: (item: Item) => Promise<void>): Promise<number> {
  const half = items.length / 2
  for (const item of items.slice(0, half)) await run(item)
  const begun = process.threadCpuUsage()
  for (const item of items.slice(half)) await run(item)
  const { user, system } = process.threadCpuUsage(begun)
  return (user + system) / 1000 / half
}

async function coldChain({ anchors, lists }: Trusted): Promise<Row> {
  const trust = { anchors, lists, revocation: 'hard', at: NOW } as const
  const certificates = Array.from({ length: MACHINES }, (_, n) =>
    certifyEk(issuing, pairOf('rsa-2048', 'ek').publicKey, { serial: Buffer.of(1, n >> 8, n & 255) }),
  )
  const once = async (der: Buffer) => {
    const profile = readEkCertificate(der)
    if (!profile.ok) throw new Error(profile.detail)
    const path = await validatePath(profile.value.certificate, [issuing.certificate], trust)
    if (!path.ok) throw new Error(path.detail)
  }
  return limitRow({
    id: 'trust.chain',
    what: `an EK certificate not seen before: its profile, its path of three among ${ANCHORS + 1} anchors, revocation lists, in ms of CPU`,
    ours: await cpuMs(certificates, once),
    limit: 3,
  })
}

async function cachedChain(trusted: Trusted): Promise<Row> {
  const world = testWorld()
  const trust = { of: async () => trusted, listsFrom: async () => ({}) }
  const moduli = { of: async () => [], add: async () => undefined }
  const endorse = openEndorse(trust, moduli, world)
  const key = pairOf('rsa-2048', 'ek').publicKey
  const offered = { ekCertificate: certifyEk(issuing, key), ekPublic: ekAreaOf(key), intermediates: [issuing.certificate] }
  const once = async () => {
    const verdict = await endorse({ id: 'mount' } as never, offered, config)
    if (!verdict.ok) throw new Error(verdict.detail)
  }
  return limitRow({
    id: 'trust.again',
    what: 'the whole endorsement, seen before, in ms of CPU',
    ours: await cpuMs(Array.from({ length: AGAIN }), once),
    limit: 0.3,
  })
}

const config = { ek_types: ['rsa-2048'], allowed_makers: [], sha1_makers: [], crl: 'hard' } as unknown as AttestConfig

/** Challenges need no token: a million of them are drawn and none is answered. */
async function flood(): Promise<Row> {
  await using broker = await openTestBroker()
  await configure(broker)
  const machine = fakeMachine({ label: 'floods' })
  await enrol(broker, machine)
  const fields = { role: 'builder', ak_name: machine.akName.toString('hex') }
  const draw = async () => {
    broker.world.pass(6) // as fast as one key may ask
    dataOf(await broker.ask('update', 'auth/tpm-quote/challenge', fields, { token: '' }))
  }
  for (let turn = 0; turn < 1000; turn += 1) await draw()
  const before = heapUsed()
  for (let turn = 0; turn < CHALLENGES; turn += 1) await draw()
  return limitRow({
    id: 'trust.flood',
    what: `growth of the heap by ${CHALLENGES.toLocaleString('en')} challenges that nobody answers, in MiB`,
    ours: Math.max(0, heapUsed() - before) / MEGABYTE,
    limit: 32,
  })
}
