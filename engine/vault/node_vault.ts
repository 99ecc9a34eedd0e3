import nodeVault from 'node-vault'
import { absent, answered, encodePath, keysOf, unanswered, type Vault, type VaultReply } from './client.ts'
import { type CallOptions, openTransport, type TransportOptions } from './transport.ts'

/** What sets up a Vault speaks through: node-vault, over our own transport instead of its HTTP layer, which follows redirects with
 *  the token and tells it in errors. It costs 150 ms to import and as much again as a call itself, so the running service does without. */
export function openSetupVault(options: TransportOptions): Vault {
  const transport = openTransport(options)
  const send = ({ method, path, json, assay }: Outgoing) =>
    transport
      .send({ method, path: path.slice(1), json, ...assay })
      .then(({ status, body }) => ({ statusCode: 200, body: answered({ status, body }), request: { path } }), unanswered)
  // node-vault reads VAULT_TOKEN and VAULT_NAMESPACE by itself and prints bodies under DEBUG: the transport makes its own headers, debug is off
  const settings = { endpoint: options.address, debug: () => {}, 'request-promise': { defaults: () => send } }
  const client = nodeVault(settings as object) as unknown as NodeVault
  return {
    read: async (path, assay = {}) => client.read(encodePath(path), { assay }),
    list: async (path, assay = {}) => keysOf(await absent(client.read(`${encodePath(path)}?list=true`, { assay }))),
    write: async (path, body, assay = {}) => client.write(encodePath(path), body, { assay }),
    delete: async (path, assay = {}) => void (await client.delete(encodePath(path), { assay })),
    close: transport.close,
  }
}

/** What we use of node-vault: four verbs, whose paths we encode ourselves. */
type NodeVault = {
  read: (path: string, options: { assay: CallOptions }) => Promise<VaultReply | undefined>
  write: (path: string, body: object, options: { assay: CallOptions }) => Promise<VaultReply | undefined>
  delete: (path: string, options: { assay: CallOptions }) => Promise<unknown>
}
type Outgoing = { path: string; method: string; json?: object; assay: CallOptions }
