import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, start } from '../test/harness/process.ts'

export type Nginx = AsyncDisposable & { readonly address: string }

/** nginx as a plain reverse proxy before a server, with connections to it that are kept. Disposing of it ends it and removes its files. */
export async function startNginx(upstream: string): Promise<Nginx> {
  const home = await mkdtemp(join(tmpdir(), 'assay-nginx-'))
  const port = await freePort()
  const config = join(home, 'nginx.conf')
  await writeFile(config, configOf(home, port, new URL(upstream).host))
  const server = await start('/usr/sbin/nginx', ['-e', join(home, 'error.log'), '-c', config, '-g', 'daemon off;'])
  const address = `http://127.0.0.1:${port}`
  const stop = async () => {
    await server.stop('SIGQUIT')
    await rm(home, { recursive: true, force: true })
  }
  try {
    await server.ready('to answer', () => answers(`${address}/v1/sys/health`))
  } catch (error) {
    await stop()
    throw error
  }
  return { address, [Symbol.asyncDispose]: stop }
}

async function answers(url: string): Promise<boolean> {
  const reply = await fetch(url).catch(() => undefined)
  await reply?.arrayBuffer()
  return reply?.ok ?? false
}

function configOf(home: string, port: number, upstream: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${home}/${name};`)
  return `
    user root;
    worker_processes auto;
    pid ${home}/nginx.pid;
    events { worker_connections 1024; }
    http {
      access_log off;
      ${temporary.join('\n      ')}
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
