import { spawn } from 'node:child_process'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { type Listening, listening } from '../listening.ts'
import { run } from '../process.ts'

/** git's own server for HTTPS (git-http-backend, a CGI program) behind basic authentication. Disposing of it ends it. */
export type GitServer = Listening

type Options = {
  readonly cert: string
  readonly key: string
  /** folder of the bare repositories */
  readonly folder: string
  readonly user: string
  readonly password: string
}

/** Makes the bare repository `app.git` in the folder and serves it, to who knows the password and to nobody else. */
export async function startGitServer({ cert, key, folder, user, password }: Options): Promise<GitServer> {
  const { stdout: programs } = await run('git', ['--exec-path'])
  const repository = `${folder}/app.git`
  await run('git', ['init', '--quiet', '--bare', '--initial-branch=main', repository])
  await run('git', ['-C', repository, 'config', 'http.receivepack', 'true'])
  const wanted = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
  const server = createServer({ cert, key }, (incoming, outgoing) => {
    if (incoming.headers.authorization === wanted) {
      backend(`${programs.trim()}/git-http-backend`, folder, incoming, outgoing)
      return
    }
    outgoing.writeHead(401, { 'WWW-Authenticate': 'Basic realm="git"' }).end()
    incoming.resume()
  })
  return listening(server)
}

/** One request, as RFC 3875 has it. */
function backend(program: string, folder: string, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const { pathname, search } = new URL(incoming.url ?? '', 'https://localhost')
  const { 'content-type': type = '', 'content-encoding': encoding = '', 'content-length': length = '' } = incoming.headers
  const env = {
    PATH: process.env['PATH'],
    GIT_PROJECT_ROOT: folder,
    GIT_HTTP_EXPORT_ALL: '1',
    REMOTE_USER: 'agent',
    REQUEST_METHOD: incoming.method,
    PATH_INFO: pathname,
    QUERY_STRING: search.slice(1),
    CONTENT_TYPE: type,
    CONTENT_LENGTH: length,
    HTTP_CONTENT_ENCODING: encoding,
    HTTP_GIT_PROTOCOL: String(incoming.headers['git-protocol'] ?? ''),
  }
  const child = spawn(program, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.on('error', () => {})
  incoming.pipe(child.stdin)
  let head: Buffer | undefined = Buffer.alloc(0)
  child.stdout.on('data', (chunk: Buffer) => {
    if (head === undefined) return void outgoing.write(chunk)
    head = Buffer.concat([head, chunk])
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) return
    const lines = head.subarray(0, end).toString('latin1').split('\r\n')
    const fields = lines.map(line => line.split(/: */, 2) as [string, string])
    const status = fields.find(([name]) => name === 'Status')?.[1] ?? '200'
    outgoing.writeHead(Number.parseInt(status, 10), fields.filter(([name]) => name !== 'Status').flat())
    outgoing.write(head.subarray(end + 4))
    head = undefined
  })
  child.stdout.on('end', () => outgoing.end())
}
