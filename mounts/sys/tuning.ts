import { BrokerError, CEILING_SECONDS, duration, type Mount, map, parseFields, type Tuned, text, visibilities } from '#engine'
import { enveloped, type HttpReply } from '../hosts/envelope.ts'
import { admit } from './admit.ts'
import { asText, livesOf, type SysRequest, saidOf, sentTo } from './request.ts'

type Sent = Readonly<Record<string, unknown>>

/** As Vault shows it: with the lives that count, where nothing was tuned too. */
export function tuningOf(mount: Mount): object {
  const { config, description, options } = saidOf(mount)
  return { ...config, ...livesOf(mount), description, ...(Object.keys(options ?? {}).length === 0 ? {} : { options }) }
}

/** `sys/mounts/:path/tune`. */
export async function tune(request: SysRequest, mount: Mount): Promise<HttpReply> {
  await admit(request, { operation: 'update', path: `sys/mounts/${request.path}`, anyOf: ['update'] })
  const sent = sentTo(request)
  const { plugin_version: version } = parseFields(versionField, sent).values
  if (version) throw new BrokerError('bad_request', `plugin not found in the catalog: broker, version=${version}`)
  const { description, options, ...config } = sent
  const { given, ignored } = givenOf({ description, options, config })
  const { defaultTtlSeconds, maxTtlSeconds } = { ...mount, ...given }
  if (maxTtlSeconds > 0 && defaultTtlSeconds > maxTtlSeconds) {
    const message = `backend max lease TTL of ${maxTtlSeconds} would be less than backend default lease TTL of ${defaultTtlSeconds}`
    throw new BrokerError('bad_request', message)
  }
  await request.broker.mounts.tuneBroker(mount, given)
  return asTold(request, ignored, given)
}

/** Done; what was ignored is said, and what counts for less than it says. */
export function asTold({ txn }: SysRequest, ignored: readonly string[], given: Partial<Tuned>): HttpReply {
  const { defaultTtlSeconds = 0, maxTtlSeconds = 0 } = given
  const warnings = [
    ...(ignored.length > 0 ? [`Endpoint ignored these unrecognized parameters: [${ignored.join(' ')}]`] : []),
    ...(Math.max(defaultTtlSeconds, maxTtlSeconds) > CEILING_SECONDS ? [CUT] : []),
  ]
  if (warnings.length === 0) return { status: 204 }
  return { status: 200, body: { ...enveloped(txn, 'system', {}, warnings), data: null } }
}

const CUT = `nothing that a mount of this type issues lives for longer than ${CEILING_SECONDS} seconds: what is tuned above that counts as that`

const versionField = { plugin_version: text('Version of a plugin.', { max: 64 }) }
const fields = {
  description: text('Description.'),
  options: map('Options, kept as they are.'),
  config: map('What is tuned.'),
}
const SYSTEM = 'system'
const configFields = {
  default_lease_ttl: text('Life of what is issued when nobody names one; `system` is what holds without it.'),
  max_lease_ttl: text('Longest life of what is issued; `system` is what holds without it.'),
  listing_visibility: text('Whether the mount is listed to who has no token.'),
}
const lives = { default_lease_ttl: duration('Life.'), max_lease_ttl: duration('Life.') }
/** What says of which kind the mount is. */
const KIND: ReadonlySet<string> = new Set(['type', 'plugin_name'])

/** What an operator says of a mount, and what of it means nothing on ours: what Vault's clients send when nothing was said is none of it. */
export function givenOf(sent: Sent): { readonly given: Partial<Tuned>; readonly ignored: readonly string[] } {
  const { given: named, unknown: others } = parseFields(fields, sent)
  const { config = {}, description, options } = named
  const { given, unknown } = parseFields(configFields, config)
  const ignored = [...others.filter(name => !KIND.has(name) && says(sent[name])), ...unknown.filter(name => says(config[name]))]
  return {
    given: {
      ...livesIn(given),
      ...visibilityOf(given.listing_visibility),
      ...(description === undefined ? {} : { description }),
      ...optionsOf(options),
    },
    ignored: ignored.toSorted(),
  }
}

function says(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0
  return Boolean(value)
}

function livesIn({ default_lease_ttl: usual, max_lease_ttl: longest }: Sent): Partial<Tuned> {
  const said = { default_lease_ttl: usual || undefined, max_lease_ttl: longest || undefined }
  const seconds = parseFields(lives, {
    default_lease_ttl: usual === SYSTEM ? 0 : said.default_lease_ttl,
    max_lease_ttl: longest === SYSTEM ? 0 : said.max_lease_ttl,
  }).given
  return {
    ...(seconds.default_lease_ttl === undefined ? {} : { defaultTtlSeconds: seconds.default_lease_ttl }),
    ...(seconds.max_lease_ttl === undefined ? {} : { maxTtlSeconds: seconds.max_lease_ttl }),
  }
}

function visibilityOf(wanted: string | undefined): Partial<Tuned> {
  if (wanted === undefined) return {}
  const listingVisibility = visibilities.find(one => one === wanted)
  if (listingVisibility === undefined) throw new BrokerError('bad_request', `invalid listing_visibility ${wanted}`)
  return { listingVisibility }
}

function optionsOf(options: Sent | undefined): Partial<Tuned> {
  return options === undefined ? {} : { options: Object.fromEntries(Object.entries(options).map(optionOf)) }
}

function optionOf([name, value]: readonly [string, unknown]): [string, string] {
  const text = asText(value)
  if (text === undefined) throw new BrokerError('bad_request', 'options: wanted texts')
  return [name, text]
}
