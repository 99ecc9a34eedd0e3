import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, start } from '../test/harness/process.ts'
import { discard, scratch } from '../test/harness/scratch.ts'

export type Nginx = AsyncDisposable & { readonly address: string }

/** nginx as a plain reverse proxy before a server, with connections to it that are kept. Disposing of it ends it and removes its files. */
export async function startNginx(upstream: string): Promise<Nginx> {
  const home = await scratch('assay-nginx-')
  const port = await freePort()
  await writeFile(join(home, 'nginx.conf'), configOf(home, port, new URL(upstream).host))
  const address = `http://127.0.0.1:${port}`
  await using opening = new AsyncDisposableStack()
  opening.defer(() => discard(home))
  opening.use(await runNginx(home, `${address}/v1/sys/health`))
  const parts = opening.move()
  return { address, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

/** Runs nginx with the `nginx.conf` of a folder, where its other files go, too. @param url that it answers once it is ready */
export async function runNginx(home: string, url: string): Promise<AsyncDisposable> {
  const files = ['-e', join(home, 'error.log'), '-c', join(home, 'nginx.conf')]
  const server = await start('/usr/sbin/nginx', [...files, '-g', 'daemon off;'])
  const stop = async () => void (await server.stop('SIGQUIT'))
  try {
    await server.ready('to answer', () => answers(url))
  } catch (error) {
    await stop()
    throw error
  }
  return { [Symbol.asyncDispose]: stop }
}

/** What a configuration begins with: as many processes as there are processors. */
export function processes(home: string, connections: number): string {
  return `user root; worker_processes auto; pid ${home}/nginx.pid; events { worker_connections ${connections}; }`
}

/** What it writes, which is all below one folder. */
export function ownFiles(home: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${home}/${name};`)
  return ['access_log off;', ...temporary].join(' ')
}

async function answers(url: string): Promise<boolean> {
  const reply = await fetch(url).catch(() => undefined)
  await reply?.arrayBuffer()
  return reply?.ok ?? false
}

function configOf(home: string, port: number, upstream: string): string {
  return `
    ${processes(home, 1024)}
    http {
      ${ownFiles(home)}
      upstream vault {
        server ${upstream};
        keepalive 256;
      }
      server {
        listen 127.0.0.1:${port};
        keepalive_requests 1000000;
        client_max_body_size 0;
        location / {
          proxy_pass http://vault;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_set_header Host $host;
        }
      }
    }
  `
}
