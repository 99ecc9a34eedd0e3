import { LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'
import { configParts, offsetOf, PROXY_PLACES, parseAuthority, sentencesOf } from '#engine'
import { connectors } from './connectors/index.ts'
import { bareHost } from './egress/addresses.ts'

const { name, file, url } = configParts

export const schema = z.strictObject({
  /** where agents connect, with mutual TLS 1.3 */
  listen: z.strictObject({
    host: z.string().default('127.0.0.1'),
    port: z.int().min(0).max(65_535).default(8220),
    cert_file: file,
    key_file: file,
    /** certificates of agents have to lead to one of these; any certificate will do when left out, as tokens are sealed to the certificate itself */
    client_ca_file: file.optional(),
  }),
  vault: z.strictObject({
    address: url,
    ca_file: file.optional(),
    /** AppRole of the proxy: `assay setup --proxy --print` tells how it is made */
    approle: configParts.approle.optional(),
    deadline_ms: configParts.vaultDeadlineMs,
  }),
  places: z.strictObject({ transit: configParts.transit, kv: configParts.kv, pki: name.default(PROXY_PLACES.pki) }).prefault({}),
  audit: z.strictObject({
    file,
    deadline_ms: configParts.auditDeadlineMs,
    /** whether the record of each request is on disk before it goes out; those of sessions and upgrades always are */
    durable: z.boolean().default(false),
  }),
  /** where operators look: `/metrics`, `/healthz`, `/readyz`, in plain HTTP. Workers take this port and those behind it */
  metrics: z.strictObject({ host: z.string().default('127.0.0.1'), port: z.int().min(0).max(65_535) }).optional(),
  revocations: z
    .strictObject({
      poll_ms: z.int().min(10).max(60_000).default(1_000),
      /** a copy of what is revoked that is older than this serves nobody */
      limit_ms: z.int().min(100).max(600_000).default(15_000),
    })
    .prefault({}),
  /** whether CONNECT is answered, with certificates from the authority in Vault */
  intercept: z.boolean().default(false),
  limits: z
    .strictObject({
      head_bytes: z.int().min(8_192).max(262_144).default(32_768),
      /** of bodies that have to be held to be looked at: a placeholder, an AWS signature without a hash */
      held_body_bytes: z.int().min(1_024).max(67_108_864).default(1_048_576),
      head_within_ms: z.int().min(100).max(60_000).default(10_000),
      stall_ms: z.int().min(100).max(600_000).default(30_000),
      idle_ms: z.int().min(100).max(600_000).default(65_000),
      /** how often answers, uploads and WebSockets that go on are looked at: they end with their token */
      watch_ms: z.int().min(50).max(60_000).default(1_000),
      connections: z.int().min(1).max(100_000).default(4_096),
      /** of one certificate, at all ports together */
      connections_per_agent: z.int().min(1).max(100_000).default(512),
    })
    .prefault({}),
  /** processes that share the ports; each has an audit log of its own, `audit.1.jsonl` and so on */
  workers: z.int().min(1).max(64).default(1),
  log_level: configParts.logLevel,
  drain_seconds: configParts.drainSeconds,
  shutdown_seconds: configParts.shutdownSeconds,
  services: z
    .array(z.discriminatedUnion('kind', [connectors.http.schema, connectors.postgres.schema, connectors.ssh.schema]))
    .min(1),
})

/** The configuration of a proxy, as its file has it. */
export type ProxyConfig = z.output<typeof schema>
export type DeclaredService = ProxyConfig['services'][number]

/** What is wrong, and where in the file: lines and columns from 1. */
export type Problem = { readonly line: number; readonly column: number; readonly message: string }
export type Read =
  | { readonly ok: true; readonly config: ProxyConfig }
  | { readonly ok: false; readonly problems: readonly Problem[] }

type Path = readonly PropertyKey[]
type YamlDocument = ReturnType<typeof parseDocument>

/** Reads a configuration in YAML. A member that is not known is an error, as it may be a misspelt one. */
export function readConfig(text: string): Read {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, maxAliasCount: 0 } as never)
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line, column: col }
  }
  if (document.errors.length > 0)
    return {
      ok: false,
      problems: document.errors.map(({ pos, message }) => ({ ...place(pos[0]), message: message.split(/[\n:]/, 1)[0] ?? '' })),
    }
  const at = (path: Path) => place(offsetOf(document, path))
  const read = schema.safeParse(plainOf(document))
  const problems = read.success
    ? clashes(read.data).map(({ path, message }) => ({ ...at(path), message }))
    : sentencesOf(read.error).map(({ path, message }) => ({ ...at(path), message }))
  return read.success && problems.length === 0 ? { ok: true, config: read.data } : { ok: false, problems }
}

function plainOf(document: YamlDocument): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 })
  } catch {
    return undefined
  }
}

/** Names and places are given once: which service would answer must not be a matter of order. */
function clashes({ services }: ProxyConfig): { path: Path; message: string }[] {
  const seen = new Map<string, string>()
  return services.flatMap((service, at) => {
    return [`name ${service.name}`, ...placesOf(service)].flatMap(one => {
      const other = seen.get(one)
      seen.set(one, service.name)
      return other === undefined
        ? []
        : [{ path: ['services', at], message: `services.${at}: ${one} is taken by the service ${other}` }]
    })
  })
}

/** Hosts whose connections are intercepted, names and addresses, each once. */
export function interceptedHosts({ services }: Pick<ProxyConfig, 'services'>): readonly string[] {
  const https = services.flatMap(one => (one.kind === 'http' && one.scheme === 'https' ? one.hosts : []))
  return [...new Set(https.flatMap(host => parseAuthority(host, 443)?.host ?? []).map(bareHost))]
}

function placesOf(service: DeclaredService): string[] {
  if (service.kind !== 'http') return service.listen.port === 0 ? [] : [`port ${service.listen.port}`]
  const port = service.scheme === 'https' ? 443 : 80
  return [...new Set(service.hosts.map(host => placeText(parseAuthority(host, port))))]
}

/** In the one spelling that counts. */
const placeText = (place: ReturnType<typeof parseAuthority>) => `${place?.host}:${place?.port}`
