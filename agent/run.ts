import { type IssuedAs, issue } from './asking.ts'
import { certificatesIn, proofOf, tokenAtHand } from './at_hand.ts'
import { chainOf } from './chain.ts'
import { modeOf } from './delivery.ts'
import { athOf } from './dpop.ts'
import { exec } from './exec.ts'
import { AgentError, exits } from './exits.ts'
import { enroll, evidence, type Issued, type LoggedIn, login, present } from './flow.ts'
import { keepAlive, sayOnce } from './long_work.ts'
import { lazyTpm, openService } from './open.ts'
import type {
  CredsOptions,
  DpopOptions,
  EnrollOptions,
  EvidenceOptions,
  ExecOptions,
  KeyOptions,
  LoginOptions,
  PcrsOptions,
  PrintOptions,
} from './options.ts'
import { aloneOf, jsonOf, loginRows, tableOf } from './print.ts'
import { sayTo } from './say.ts'
import { readSecret, writeSecret } from './secret_file.ts'
import { TpmError } from './tpm/errors.ts'
import { approved } from './wait.ts'
import type { World } from './world.ts'

/** Runs an action and says what went wrong, in a sentence that holds no secret. @returns the exit code */
export async function reported(world: World, action: () => Promise<number>): Promise<number> {
  try {
    refuseUnverified(world)
    return await action()
  } catch (error) {
    world.err(`assay agent: ${sentenceOf(error)}\n`)
    return exitOf(error).code
  }
}

/** What goes to the service, and comes from it, is secret: it is for nobody else. */
function refuseUnverified({ env }: World): void {
  if (env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0')
    throw new AgentError('usage', 'NODE_TLS_REJECT_UNAUTHORIZED=0 is set: not going on without verification')
}

export async function runEnroll(world: World, options: EnrollOptions): Promise<number> {
  const service = await openService(world, options)
  const intermediates = (await Promise.all(options.intermediate.map(certificatesIn))).flat()
  const [certificate] = options.ekCertificate === undefined ? [] : await certificatesIn(options.ekCertificate)
  const token = await tokenAtHand(world, options)
  const given = { intermediates, ...(certificate ? { certificate } : {}), ...present({ token }) }
  const enrolled = await approved(world, options.wait ?? 0, async () => {
    await using tpm = lazyTpm(world, options)
    return await enroll(service, await tpm.attester(), given)
  })
  const { status, ...names } = enrolled
  const shown = status === 'pending' ? enrolled : names
  const printed = await print(world, options, { json: shown, rows: Object.entries(shown) })
  return status === 'pending' ? exits.pending.code : printed
}

export async function runLogin(world: World, options: LoginOptions): Promise<number> {
  const service = await openService(world, options)
  await using tpm = lazyTpm(world, options)
  const { role, audience, tokenFile } = options
  const proof = await proofOf(options)
  const loggedIn = await login(service, await tpm.attester(), { role, ...proof, ...present({ audience }) })
  if (tokenFile === undefined) return await print(world, options, { json: loggedIn.reply, rows: loginRows(loggedIn.auth) })
  await writeSecret(tokenFile, `${loggedIn.token}\n`)
  return await print(world, options, withoutToken(loggedIn))
}

/** For clients that log in by themselves: Vault's own agent, and the stock CLI. */
export async function runEvidence(world: World, options: EvidenceOptions): Promise<number> {
  const service = await openService(world, options)
  await using tpm = lazyTpm(world, options)
  const { role, audience, out } = options
  const proof = await proofOf(options)
  const prepared = await evidence(service, await tpm.attester(), { role, ...proof, ...present({ audience }) })
  if (out === undefined) await world.out(`${prepared}\n`)
  else await writeSecret(out, prepared)
  return exits.ok.code
}

export async function runCreds(world: World, role: string, options: CredsOptions): Promise<number> {
  const issued = await issue(world, role, options)
  const { reply, data, warnings } = issued
  sayOnce(sayTo(world))(warnings)
  if (options.chain) {
    await world.out(await chained(world, options, issued))
    return exits.ok.code
  }
  return await print(world, options, { json: reply, rows: Object.entries(data) })
}

/** The TPM is opened for each credential and closed again: a software TPM serves one program at a time. */
export async function runExec(world: World, role: string, words: readonly string[], options: ExecOptions): Promise<number> {
  const [command, ...args] = words
  if (command === undefined) throw new AgentError('usage', 'wanted a command to run, behind --')
  const { VAULT_TOKEN: _, ...env } = world.env
  const proxied = options.proxy === undefined ? undefined : await (await import('./proxied/run.ts')).prepare(world, options)
  const tell = sayOnce(sayTo(world))
  let last: IssuedAs | undefined
  const issued = async (signal?: AbortSignal) => {
    const one = await issue(world, role, options, { held: proxied?.held, signal })
    const { token, data, expiresInSeconds, warnings } = one
    last = one
    tell(warnings)
    if (!options.json && token === '')
      throw new AgentError('usage', 'this credential has several parts: take them all with --json')
    const content = options.chain ? await chained(world, options, one) : options.json ? JSON.stringify(data) : token
    return { content, lifeMs: expiresInSeconds * 1000 }
  }
  const mode = proxied?.mode ?? modeOf(options)
  const alive = (signal: AbortSignal) =>
    keepAlive({
      beat: async () => last?.beat(signal),
      withinMs: () => last?.beatWithinSeconds && last.beatWithinSeconds * 1000,
      failed: error => sayTo(world)(`the broker did not take a sign of life: ${sentenceOf(error)}`),
      signal,
    })
  const { directories, terminal, signals } = world
  const around = proxied?.open
  return exec({ command, args, mode, issue: issued, env, directories, terminal, signals, say: sayTo(world), alive, around })
}

export async function runDpop(world: World, method: string, url: string, options: DpopOptions): Promise<number> {
  if (!/^https?:/i.test(url) || !URL.canParse(url)) throw new AgentError('usage', `wanted the address of a request, got '${url}'`)
  const file = options.credentialFile ?? (world.env['ASSAY_CREDENTIAL_FILE'] || undefined)
  const bound = file === undefined ? {} : { ath: athOf(await readSecret(file)) }
  await using tpm = lazyTpm(world, options)
  const attester = await tpm.attester()
  const { nonce } = options
  await world.out(`${await attester.dpopProof({ htm: method, htu: url, ...bound, ...present({ nonce }) })}\n`)
  return exits.ok.code
}

const BOOT_PCRS = [0, 1, 2, 3, 4, 5, 6, 7]

/** What an operator writes as reference values: one JSON document, the values as a quote has them. */
export async function runPcrs(world: World, options: PcrsOptions): Promise<number> {
  await using tpm = lazyTpm(world, options)
  const attester = await tpm.attester()
  const selection = { [options.bank]: options.pcr.length > 0 ? options.pcr : BOOT_PCRS }
  const { pcrs } = await attester.quote(selection, world.random(32))
  await world.out(`${JSON.stringify({ pcrs: JSON.parse(pcrs) })}\n`)
  return exits.ok.code
}

/** The credential in a certificate, behind those of the key that it is bound to. */
async function chained(world: World, { keyCertificate }: KeyOptions, issued: Issued): Promise<string> {
  if (keyCertificate === undefined || issued.token === '')
    throw new AgentError('usage', 'wanted --key-certificate with --chain, and a credential that is one token')
  const [first, ...others] = await certificatesIn(keyCertificate)
  if (!first) throw new AgentError('file', `there is no certificate in ${keyCertificate}`)
  return chainOf([first, ...others], issued, world)
}

type Printed = { readonly json: object; readonly rows: readonly (readonly [string, unknown])[] }

async function print(world: World, options: PrintOptions, { json, rows }: Printed): Promise<number> {
  if (options.field !== undefined) await world.out(`${fieldOf(rows, options.field)}\n`)
  else await world.out(options.json ? `${jsonOf(json)}\n` : tableOf(rows))
  return exits.ok.code
}

function fieldOf(rows: Printed['rows'], name: string): string {
  const row = rows.find(([at]) => at === name)
  if (row === undefined)
    throw new AgentError('usage', `there is no ${name} in the reply, only ${rows.map(([at]) => at).join(', ')}`)
  return aloneOf(row[1])
}

/** With a token file the token is nowhere else. */
function withoutToken({ reply, auth }: LoggedIn): Printed {
  const { client_token: _, ...rest } = auth as { client_token: unknown }
  return { json: { ...reply, auth: rest }, rows: loginRows(auth).filter(([name]) => name !== 'token') }
}

function exitOf(error: unknown): (typeof exits)[keyof typeof exits] {
  if (error instanceof AgentError) return exits[error.exit]
  if (error instanceof TpmError) return error.symbol === 'SPEC' ? exits.usage : exits.tpm
  return exits.internal
}

function sentenceOf(error: unknown): string {
  const known = error instanceof AgentError || error instanceof TpmError
  return known
    ? error.message
    : `a mistake of ours (${error instanceof Error ? `${error.name}: ${error.message}` : 'no error object'})`
}
