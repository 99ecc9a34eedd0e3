import '../lib/node.js'
import { type EnrolledWorld, openEnrolledWorld } from '../../test/live/enrolled_world.ts'
import { openSides, type Side } from '../../test/live/sides.ts'
import { ask, done, logIn } from '../../test/live/world.ts'
import { calm, type Finding, type Step, same, wanted } from './terraform_judgement.ts'
import { live, openWorkspace, type Place, type Programs } from './terraform_runs.ts'

// node terraform.ts TOFU FOLDER: OpenTofu with the provider for Vault that lies in the folder, straight at Vault and through the front door.

const [tofu = '', provider = ''] = process.argv.slice(2)
const programs: Programs = { tofu, provider }

const findings = [...(await bothWays()), ...(await ours())]
process.stdout.write(`${findings.flatMap(({ lines }) => lines).join('\n')}\n`)
if (!findings.every(({ ok }) => ok)) process.exitCode = 1

/** What Vault has itself, and mounts of ours beside those that it ships. */
async function bothWays(): Promise<Finding[]> {
  await using sides = await openSides()
  const before = await sides.both(tablesOf)
  const both = (name: string, vars?: Place['vars']) => sides.both(side => runOf(name, side, vars))
  const shipped = await both('shipped')
  const refused = await both('refused')
  const mounts = await both('mounts', { engine: 'transit', method: 'userpass' })
  const own = await runOf('mounts', sides.through, { engine: 'broker', method: 'tpm-quote' })
  const after = await sides.both(tablesOf)
  return [
    same('what Vault ships', [shipped.straight, shipped.through], { resources: 45 }),
    same('what Vault refuses', [refused.straight, refused.through]),
    same('mounts that Vault ships', [mounts.straight, mounts.through], { resources: 7 }),
    same('mounts of ours beside those', [mounts.straight, own], { resources: 7, alike: typeless }),
    wanted('nothing is left of them', after, before),
  ]
}

async function runOf(name: string, { address, vault }: Side, vars?: Place['vars']): Promise<Step[]> {
  return live(await openWorkspace(programs, name, { address, token: vault.rootToken, ...(vars ? { vars } : {}) }), name)
}

/** Without the names of types; accessors of ours have that of the mount at Vault. */
function typeless(text: string): string {
  return text
    .replaceAll(/\bauth_(?:userpass|jwt)_/g, 'auth_METHOD_')
    .replaceAll(/userpass|tpm-quote/g, 'METHOD')
    .replaceAll(/transit|broker/g, 'ENGINE')
}

async function tablesOf({ address, vault }: Side): Promise<Readonly<Record<string, readonly string[]>>> {
  const read = async (path: string) => Object.keys((await done(ask(address, 'GET', path, { token: vault.rootToken }))).data)
  return { mounts: (await read('sys/mounts')).toSorted(), methods: (await read('sys/auth')).toSorted() }
}

/** What is written to mounts of ours, and what a machine with its own token is given by them. */
async function ours(): Promise<Finding[]> {
  await using world = await openEnrolledWorld()
  const { door, vault, tpm } = world
  const place = { address: door.address, token: vault.rootToken, vars: { ca: tpm.rootCaPem } }
  const written = await live(await openWorkspace(programs, 'ours', place), 'ours')
  return [calm('what is written to mounts of ours', written), ...(await machine(world))]
}

async function machine(world: EnrolledWorld): Promise<Finding[]> {
  await done(world.api('POST', 'secret/data/app', { data: { a: 'b' } }))
  const rules = ['broker/creds/*', 'auth/token/create'].map(path => `path "${path}" { capabilities = ["update"] }`)
  const policy = [...rules, 'path "secret/data/app" { capabilities = ["read"] }'].join('\n')
  await done(world.api('PUT', 'sys/policies/acl/builder', { policy }))
  const own = await asMachine(world, { TERRAFORM_VAULT_SKIP_CHILD_TOKEN: 'true' })
  const child = await asMachine(world, {})
  const refused = child.step.said.filter(line => line.includes('NOT_ATTESTED')).length
  return [
    calm('credentials with the token of a machine', [own.step]),
    wanted('they are what it was given', [own.outputs['app'], own.outputs['token']?.split('.').length], ['b', 3]),
    wanted('and none with a child of that token', [child.step.code, refused, child.outputs['app']], [1, 1, 'b']),
  ]
}

async function asMachine({ door, service, attester }: EnrolledWorld, env: Place['env'] & object) {
  const token = await logIn(service, attester)
  const workspace = await openWorkspace(programs, 'creds', { address: door.address, token, env })
  return { step: await workspace.step('apply', ['apply', '-auto-approve']), outputs: await workspace.outputs() }
}
