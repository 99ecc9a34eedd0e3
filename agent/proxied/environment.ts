import type { Companion } from './companion.ts'
import { POSTGRES_PORT } from './companion.ts'

/** What programs read to find a proxy. curl heeds `http_proxy` in lower case only; for WebSockets aiohttp heeds `wss_proxy` only; Yarn has names of its own. */
const PROXIES = [
  'https_proxy',
  'HTTPS_PROXY',
  'http_proxy',
  'HTTP_PROXY',
  'all_proxy',
  'ALL_PROXY',
  'wss_proxy',
  'YARN_HTTPS_PROXY',
  'YARN_HTTP_PROXY',
]
/** Nothing goes past the proxy but what asks the companion by a base URL, or the front door. */
const PAST_IT = ['no_proxy', 'NO_PROXY']
/** What programs read to find the authorities that they trust: OpenSSL, curl, git, Python's requests, the AWS CLI, Node, pip, npm, Perl's LWP, Yarn. */
const AUTHORITIES = [
  'SSL_CERT_FILE',
  'CURL_CA_BUNDLE',
  'GIT_SSL_CAINFO',
  'REQUESTS_CA_BUNDLE',
  'AWS_CA_BUNDLE',
  'NODE_EXTRA_CA_CERTS',
  'PIP_CERT',
  'npm_config_cafile',
  'PERL_LWP_SSL_CA_FILE',
  'YARN_HTTPS_CA_FILE_PATH',
]

export type Surroundings = {
  readonly companion: Pick<Companion, 'proxyUrl' | 'baseUrl' | 'place'>
  /** address of the front door, which a command may ask for more */
  readonly door: string
  /** PEM of the authority whose certificates the proxy shows in tunnels */
  readonly caFile: string | undefined
  /** `OPENAI_BASE_URL` -> `api.openai.com/v1` */
  readonly baseUrls: Readonly<Record<string, string>>
  /** folder with the socket of PostgreSQL */
  readonly postgresFolder: string | undefined
}

/** The variables that lead a command through the proxy. */
export function surroundings({
  companion,
  door,
  caFile,
  baseUrls,
  postgresFolder,
}: Surroundings): Readonly<Record<string, string>> {
  const all = (names: readonly string[], value: string) => Object.fromEntries(names.map(name => [name, value]))
  const bases = Object.entries(baseUrls).map(([name, place]) => [name, `${companion.baseUrl}/${place}`])
  return {
    ...all(PROXIES, companion.proxyUrl),
    ...all(PAST_IT, `${companion.place},${new URL(door).host}`),
    ...(caFile === undefined ? {} : all(AUTHORITIES, caFile)),
    // Node heeds the variables above only when it is told to
    NODE_USE_ENV_PROXY: '1',
    ASSAY_PROXY_BASE: companion.baseUrl,
    ...Object.fromEntries(bases),
    ...(postgresFolder === undefined ? {} : { PGHOST: postgresFolder, PGPORT: String(POSTGRES_PORT) }),
  }
}
