import { randomBytes } from 'node:crypto'
import { type Attester, openAttester } from '../agent/attester.ts'
import { clientOf } from '../agent/client.ts'
import * as flow from '../agent/flow.ts'
import { type Assay, startAssay } from '../test/harness/assay.ts'
import { type Swtpm, startSwtpm } from '../test/harness/swtpm.ts'
import type { Vault } from '../test/harness/vault.ts'

/** A front door that is configured beside a Vault, and enrolled machines: real parts, all on this machine. */
export type Parts = AsyncDisposable & {
  readonly vault: Vault
  readonly door: Assay
  readonly machines: readonly Machine[]
}
export type Machine = { readonly tpm: Swtpm; readonly attester: Attester; readonly service: flow.Service }

const AUDIENCE = 'https://api.example.com'

export async function startParts(vault: Vault, machines: number): Promise<Parts> {
  const [door, tpms] = await Promise.all([
    startAssay(vault, ['--log-level', 'error']),
    Promise.all(Array.from({ length: machines }, () => startSwtpm())),
  ])
  const stop = async (opened: readonly Machine[]) => {
    await Promise.all(opened.map(machine => machine.attester.close()))
    await Promise.all([door.stop(), ...tpms.map(tpm => tpm.stop())])
  }
  await configure(door, tpms[0])
  const opened = await Promise.all(tpms.map(tpm => enrolled(door, tpm)))
  return { vault, door, machines: opened, [Symbol.asyncDispose]: () => stop(opened) }
}

async function configure(door: Assay, tpm: Swtpm | undefined): Promise<void> {
  const values = JSON.stringify({ pcrs: { sha256: { 0: '0'.repeat(64), 7: '0'.repeat(64) } } })
  const role = ['plugins=kubernetes', 'actions=deploy', 'scopes=apps:read,apps:write', `audiences=${AUDIENCE}`]
  const policy = 'permit (principal, action == Action::"deploy", resource == Plugin::"kubernetes");'
  const rights = ['broker/creds/*', 'transit/sign/*', 'sys/capabilities-self']
    .map(path => `path "${path}" { capabilities = ["update"] }`)
    .join('\n')
  const commands: readonly (readonly [readonly string[], (string | undefined)?])[] = [
    [['auth', 'enable', 'tpm-quote']],
    [['secrets', 'enable', 'broker']],
    [['write', 'auth/tpm-quote/config', 'enrollment=any', 'allow_software_tpms=true']],
    [['write', 'auth/tpm-quote/ca/makers', 'certificate=-'], tpm?.rootCaPem],
    [['write', 'auth/tpm-quote/reference/base', '-'], values],
    [['write', 'auth/tpm-quote/role/service', 'references=base', 'token_policies=bench', 'token_ttl=1h']],
    [['write', 'auth/tpm-quote/role/lean', 'references=base', 'token_policies=bench', 'token_no_default_policy=true']],
    [['policy', 'write', 'bench', '-'], rights],
    [['write', 'broker/config', 'actions=deploy']],
    [['write', 'broker/policy/all', 'policy=-'], policy],
    [['write', 'broker/role/deploy', ...role]],
  ]
  for (const [args, input] of commands) {
    const { code, stderr } = await door.vault(args, input === undefined ? {} : { input })
    if (code !== 0) throw new Error(stderr)
  }
}

async function enrolled(door: Assay, tpm: Swtpm): Promise<Machine> {
  const attester = await openAttester({ tpm: tpm.spec, now: Date.now, random: randomBytes })
  const service = { client: clientOf({ address: door.address }), mounts: { auth: 'tpm-quote', broker: 'broker' } }
  const intermediates = [Buffer.from(tpm.issuerPem.replaceAll(/-----[A-Z ]+-----|\s/g, ''), 'base64')]
  await flow.enroll(service, attester, { intermediates })
  return { tpm, attester, service }
}
