import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../harness/process.ts'

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

/** A self-signed CA certificate, PEM, whose key is thrown away. */
export async function certificateOf(name: string): Promise<string> {
  return openssl('req', '-x509', ...KEY, '-keyout', '/dev/null', '-subj', `/CN=${name}`, '-days', '1')
}

/** Files of a CA and what it issues, made with openssl. Disposing of it removes them. */
export type Authority = AsyncDisposable & {
  readonly at: (name: string) => string
  /** Files `<name>.pem` and `<name>.key`, good for 127.0.0.1. */
  readonly issue: (name: string) => Promise<{ readonly cert: string; readonly key: string }>
  readonly ca: string
}

export async function openAuthority(): Promise<Authority> {
  const folder = await mkdtemp(join(tmpdir(), 'assay-certificates-'))
  const at = (name: string) => join(folder, name)
  const ca = at('ca.pem')
  await openssl('req', '-x509', ...KEY, '-keyout', at('ca.key'), '-out', ca, '-subj', '/CN=Test CA', '-days', '1')
  const issue = async (name: string) => {
    const [cert, key] = [at(`${name}.pem`), at(`${name}.key`)]
    const signer = ['-CA', ca, '-CAkey', at('ca.key'), '-days', '1']
    const names = ['-addext', 'basicConstraints=CA:FALSE', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']
    await openssl('req', '-x509', ...KEY, ...signer, '-keyout', key, '-out', cert, '-subj', `/CN=${name}`, ...names)
    return { cert, key }
  }
  return { at, ca, issue, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

async function openssl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run('openssl', args)
  if (code !== 0) throw new Error(`openssl ${args[0]} ended with ${code}: ${stderr}`)
  return stdout
}
