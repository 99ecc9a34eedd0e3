import '../lib/node.js'
import { readFile, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Agent, createServer, request } from 'node:https'
import { join, resolve } from 'node:path'
import { freePort, start } from '../../test/harness/process.ts'
import { discard, scratch } from '../../test/harness/scratch.ts'

// `vault server -config=FILE` for tests of others: the real server on another port, and the front door where they expect the server.
// Until it is initialised and unsealed there is no token to provision with: so long their requests go straight through, and the
// token is taken from the reply that has it.

type Listener = { address: string; readonly tls_cert_file: string; readonly tls_key_file: string }
type Settings = { readonly listener: { readonly tcp: Listener } | { readonly tcp: Listener }[] }
type Answer = { readonly status: number; readonly headers: IncomingMessage['headers']; readonly body: Buffer }

const [binary = '', ...words] = process.argv.slice(2)
const file = words.find(word => word.startsWith('-config='))?.slice('-config='.length) ?? ''
const settings = JSON.parse(await readFile(file, 'utf8')) as Settings
const listener = [settings.listener].flat()[0]?.tcp
if (!listener) throw new Error('wanted a configuration with a TCP listener')
const { address, tls_cert_file: certFile, tls_key_file: keyFile } = listener
const port = Number(address.slice(address.lastIndexOf(':') + 1))
const home = await scratch('assay-behind-')
const behind = await freePort()
const vaultUrl = `https://localhost:${behind}`
listener.address = `localhost:${behind}`
await writeFile(join(home, 'vault.json'), JSON.stringify(settings))
const vault = await start(binary, ['server', `-config=${join(home, 'vault.json')}`], { env: process.env })
void vault.exited.then(async ({ code }) => {
  await discard(home)
  process.exit(code ?? 1)
})

const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)])
const agent = new Agent({ ca: cert, keepAlive: true })
let rootToken: string | undefined
const before = createServer({ cert, key, minVersion: 'TLSv1.2' }, (incoming, outgoing) => void passed(incoming, outgoing))
before.listen(port, 'localhost')
// they wait for the server for seconds only: what is needed later is loaded when somebody answers already
const loaded = Promise.all([import('#engine'), import('../../mounts/serve.ts')])

async function passed(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const answer = await ask(incoming)
  const said = incoming.url?.match(/^\/v1\/sys\/(init|unseal)$/)
    ? (JSON.parse(answer.body.toString()) as { root_token?: string; sealed?: boolean })
    : {}
  rootToken = said.root_token ?? rootToken
  if (said.sealed === false && rootToken !== undefined) {
    before.close()
    await serveThrough(rootToken)
  }
  outgoing.writeHead(answer.status, { ...answer.headers, connection: 'close' }).end(answer.body)
}

async function ask(incoming: IncomingMessage): Promise<Answer> {
  const body = Buffer.concat(await incoming.toArray())
  const { promise, resolve: answered, reject } = Promise.withResolvers<IncomingMessage>()
  const { method, url: path, headers } = incoming
  request({ host: 'localhost', port: behind, method, path, headers, agent }, answered).on('error', reject).end(body)
  const reply = await promise.catch(() => undefined)
  if (!reply) return { status: 503, headers: {}, body: Buffer.from('{"errors":[]}') }
  return { status: reply.statusCode ?? 502, headers: reply.headers, body: Buffer.concat(await reply.toArray()) }
}

async function serveThrough(token: string): Promise<void> {
  const [{ openLog, PLACES, provision, readConfig, Secret }, { serve }] = await loaded
  const server = { address: vaultUrl, ca: cert.toString(), deadlineMs: 10_000 }
  // their tests have an AppRole of their own at the usual place
  const approle = 'assay-approle'
  const { roleId, secretId } = await provision(server, { ...PLACES, approle }, new Secret(token))
  const config = readConfig({
    vault: {
      address: vaultUrl,
      ca_file: resolve(certFile),
      approle: { mount: approle, role_id: roleId, secret_id_file: 'not read' },
    },
    listen: {
      host: 'localhost',
      port,
      tls: { cert_file: resolve(certFile), key_file: resolve(keyFile), min_version: 'TLSv1.2' },
    },
    audit: { file: join(home, 'audit.jsonl') },
  })
  await serve(config, openLog({ level: 'silent' }), async () => secretId)
}
