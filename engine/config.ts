import { z } from 'zod'
import { configParts, sentencesOf } from './config_parts.ts'
import { BrokerError } from './errors.ts'
import { isAmbiguous, isLoopback } from './networks.ts'
import { sealingModes } from './sealing/index.ts'

const { file, url } = configParts

/** How many connections are open at the same time unless said otherwise: in all, and from one address. */
export const CONNECTIONS = { all: 4096, perPeer: 1024 } as const

/** An address within a network may be meant as one machine, or as all of it. */
const network = [(text: string) => !isAmbiguous(text), 'wanted an address, or a network by its first address'] as const

export const schema = z.strictObject({
  /** the Vault or OpenBao server */
  vault: z.strictObject({
    address: url,
    ca_file: file.optional(),
    /** AppRole of the service: `assay setup --print` tells how it is made */
    approle: configParts.approle,
    deadline_ms: configParts.vaultDeadlineMs,
    /** how long Vault may take to begin its answer to what is passed on: longer than its own `max_request_duration`, so that it speaks for itself */
    answer_within_ms: z.int().min(50).max(86_400_000).default(95_000),
    /** what Vault's listener believes of this service, such as its `x_forwarded_for_client_cert_header`: clients cannot send these */
    believed_headers: z.array(z.string().regex(/^[\w-]+$/, 'wanted the name of a header')).default([]),
  }),
  listen: z.strictObject({
    host: z.string().default('127.0.0.1'),
    port: z.int().min(0).max(65_535).default(8210),
    /** how others reach this service; `iss` of what it issues begins with it */
    url: url.optional(),
    /** proxies in front of this service, by address or network: what they say in X-Forwarded-For of who asks is believed */
    trusted_proxies: z.array(z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()]).refine(...network)).default([]),
    /** how many connections are open at the same time, in all and from one address: clients behind a proxy or a router share one */
    connections: z.int().min(1).max(100_000).default(CONNECTIONS.all),
    connections_per_peer: z.int().min(1).max(100_000).default(CONNECTIONS.perPeer),
    tls: z
      .strictObject({
        cert_file: file,
        key_file: file,
        /** clients have to show a certificate that leads to one of these */
        client_ca_file: file.optional(),
        min_version: z.enum(['TLSv1.2', 'TLSv1.3']).default('TLSv1.3'),
      })
      .optional(),
  }),
  audit: z.strictObject({ file, deadline_ms: configParts.auditDeadlineMs }),
  places: z.strictObject({ transit: configParts.transit, kv: configParts.kv }).prefault({}),
  /** how real tokens are encrypted in sealed ones: under data keys that are held for minutes, or in transit each time */
  sealing: z.enum(sealingModes).default('datakey'),
  log_level: configParts.logLevel,
  drain_seconds: configParts.drainSeconds,
  shutdown_seconds: configParts.shutdownSeconds,
})

/** The configuration of a server, as its file has it. */
export type Config = z.output<typeof schema>

/** Reads a configuration that was parsed from YAML or JSON; a member that is not known is an error, as it may be a misspelt one.
 *  @param placeOf where in its file a member stands
 *  @throws BrokerError bad_request that names the member and what it wants */
export function readConfig(value: unknown, placeOf: PlaceOf = () => ''): Config {
  const read = schema.safeParse(value)
  if (read.success) return plaintextOnLoopbackOnly(read.data, placeOf)
  const sentences = sentencesOf(read.error).map(({ path, message }) => `${placeOf(path)}${message}`)
  throw new BrokerError('bad_request', sentences.join('; '))
}

type PlaceOf = (path: readonly PropertyKey[]) => string

/** Tokens cross this listener: without TLS they stay on the machine. */
function plaintextOnLoopbackOnly(config: Config, placeOf: PlaceOf): Config {
  if (config.listen.tls || isLoopback(config.listen.host)) return config
  throw new BrokerError('bad_request', `${placeOf(['listen', 'host'])}listen.tls: wanted for every address but a loopback one`)
}
