import { authoritiesIn, checkPair, endOf } from '#engine'
import type { ProxyConfig } from '../config.ts'
import type { ConnectorPorts } from '../connectors/connector.ts'
import type { ProxyMetrics } from '../metrics.ts'
import type { OwnTls } from './secure.ts'

type Ports = Pick<ConnectorPorts, 'read'> & { readonly metrics: ProxyMetrics }

/** What the configuration names, as its files are now, and on record when it ends.
 *  @throws BrokerError when a file cannot be read, or what is in it cannot be used */
export async function ownTlsOf({ listen }: ProxyConfig, { read, metrics }: Ports): Promise<OwnTls> {
  const { cert_file, key_file, client_ca_file } = listen
  const [cert, key, clientCa] = await Promise.all([
    read(cert_file),
    read(key_file),
    client_ca_file === undefined ? undefined : read(client_ca_file),
  ])
  checkPair(cert, key, 'listen')
  // an empty one would be none, and then Node trusts everybody's
  if (clientCa !== undefined) {
    authoritiesIn(clientCa, 'listen.client_ca_file')
    metrics.certificateEnd.set({ setting: 'listen.client_ca_file' }, endOf(clientCa))
  }
  metrics.certificateEnd.set({ setting: 'listen.cert_file' }, endOf(cert))
  return { cert, key, clientCa }
}

export const isSame = (one: OwnTls, other: OwnTls) =>
  one.cert === other.cert && one.key === other.key && one.clientCa === other.clientCa
