import { type Assay, startAssay } from '../harness/assay.ts'
import type { Ran } from '../harness/process.ts'
import { run } from '../harness/process.ts'
import { startVault, type Vault } from '../harness/vault.ts'

/** A client's two ways to a Vault: straight, and through the front door. */
export type Side = {
  readonly name: 'straight' | 'through'
  readonly address: string
  readonly vault: Vault
  readonly cli: (args: readonly string[], options?: { env?: NodeJS.ProcessEnv; input?: string }) => Promise<Ran>
}
export type Sides = AsyncDisposable & {
  readonly straight: Side
  readonly through: Side
  readonly both: <T>(ask: (side: Side) => Promise<T>) => Promise<Compared<T>>
}
export type Compared<T> = { readonly straight: T; readonly through: T }

/** Two Vaults in the same state, each with a front door beside it: one is asked straight, the other through its door. So what a request
 *  changes on one side it changes on the other. */
export async function openSides(begin: () => Promise<Vault> = startVault): Promise<Sides> {
  await using opening = new AsyncDisposableStack()
  const [one, other] = await Promise.all([begin(), begin()])
  opening.use(one)
  opening.use(other)
  const [, door] = await Promise.all([startAssay(one), startAssay(other)].map(async starting => opening.use(await starting)))
  const straight: Side = { name: 'straight', address: one.address, vault: one, cli: one.cli }
  const through: Side = { name: 'through', address: (door as Assay).address, vault: other, cli: (door as Assay).vault }
  return sidesOf(straight, through, opening.move())
}

export function sidesOf(straight: Side, through: Side, parts: AsyncDisposableStack): Sides {
  return {
    straight,
    through,
    both: async ask => {
      const [here, there] = await Promise.all([ask(straight), ask(through)])
      return { straight: here, through: there }
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

/** What differs from one server to the next and from one moment to the next. */
const VOLATILE: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN ([A-Z ]+)-----[\s\S]*?-----END \1-----/g, 'PEM'],
  [/\b[0-9a-f]{2}(?::[0-9a-f]{2}){15,}\b/g, 'SERIAL'],
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, 'UUID'],
  [/\b(?:hvs|hvb|s)\.[A-Za-z0-9_-]{20,}/g, 'TOKEN'],
  [/\broot-[0-9a-f]{32}\b/g, 'TOKEN'],
  [/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/g, 'TIME'],
  [/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [+-]\d{4} UTC(?: m=[+-][\d.]+)?/g, 'TIME'],
  [/\b[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d{4} [\d:]+ \w+/g, 'TIME'],
  [/\b\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ/g, 'TIME'],
  [/\b\d{4}-\d\d-\d\d\b/g, 'DAY'],
  // RFC 822, as `vault operator key-status` has it: the two servers need not have begun in the same minute
  [/\b\d\d [A-Z][a-z]{2} \d\d \d\d:\d\d UTC\b/g, 'TIME'],
  [/\b(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?(?:s|ms|µs)\b/g, 'DURATION'],
  [/127\.0\.0\.1:\d+/g, 'ADDRESS'],
  [/_[0-9a-f]{8}\b/g, '_ID'],
  [/\bvault-cluster-[0-9a-f]{8}\b/g, 'CLUSTER'],
  [/\b[0-9a-f]{16,}\b/g, 'HEX'],
  [/\b[A-Za-z0-9]{24}\b/g, 'ID'],
]

/** The text without what is volatile, and without the widths of columns that follow from it. */
export function steady(text: string): string {
  const masked = VOLATILE.reduce((kept, [pattern, name]) => kept.replaceAll(pattern, name), text)
  return masked
    .replaceAll(/-{3,}/g, '---')
    .replaceAll(/[ \t]+/g, ' ')
    .replaceAll(/ $/gm, '')
}

/** What the CLI printed, without figures that grow with time, names that are made up, and how often was waited. */
export const lines = (text: string) =>
  steady(text)
    .replaceAll(/\b\d{7,}\b|(?<=Encryption Count |Last Index:? )\d+/g, 'NUMBER')
    .replaceAll(/(?<=^ttl )\d+m$/gm, 'DURATION')
    .replaceAll(/[A-Za-z0-9+/]{24,}={0,2}/g, 'BASE64')
    .split('\n')
    .filter(line => !line.startsWith('Waiting for terminal status'))

/** The shape of JSON: names and types. Booleans and null are kept as they are: what is said by them matters. */
export function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return [...new Set(value.map(one => JSON.stringify(shapeOf(one))))].toSorted()
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).map(([name, one]) => [steady(name), shapeOf(one)] as const)
    return Object.fromEntries(members.toSorted(([a], [b]) => (a < b ? -1 : 1)))
  }
  return typeof value === 'boolean' || value === null ? value : typeof value
}

/** A reply as far as it has to be the same. */
export type Seen = { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: unknown }

/** Headers that are of this connection, or of this moment; and the one that is ours. */
const OF_THE_HOP = new Set(['connection', 'keep-alive', 'date', 'transfer-encoding', 'content-length', 'x-correlation-id'])

export async function seen(reply: Response): Promise<Seen> {
  const headers = Object.fromEntries(
    [...reply.headers].filter(([name]) => !OF_THE_HOP.has(name)).map(([name, value]) => [name, steady(value)]),
  )
  return { status: reply.status, headers, body: readable(await reply.text(), headers['content-type']) }
}

function readable(text: string, type: string | undefined): unknown {
  if (text === '') return undefined
  try {
    const body = JSON.parse(text) as { errors?: unknown }
    return Array.isArray(body.errors)
      ? { ...(shapeOf(body) as object), errors: body.errors.map(one => steady(String(one))) }
      : shapeOf(body)
  } catch {
    return type?.startsWith('text/') === true && text.length < 2000 ? steady(text) : 'bytes'
  }
}

/** All commands of the stock CLI below these words, groups of groups too: as they are typed. Of what is in `whole` it is not asked what is below. */
export async function commandsOf(binary: string, words: readonly string[], whole: readonly string[]): Promise<string[]> {
  const command = words.join(' ')
  if (whole.includes(command)) return [command]
  const { stdout } = await run(binary, [...words, '-help'])
  const [, listed] = /^(?:Subcommands|Common commands):\n([\s\S]*)/m.exec(stdout) ?? []
  if (listed === undefined) return [command]
  const names = [...listed.matchAll(/^ {4}([a-z][\w-]*)/gm)].map(([, name = '']) => name)
  return (await Promise.all(names.map(name => commandsOf(binary, [...words, name], whole)))).flat()
}
