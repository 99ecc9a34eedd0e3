import { cpus, loadavg } from 'node:os'
import { run } from '../test/harness/process.ts'
import { vaultBinary } from '../test/harness/vault.ts'

/** What the figures were measured on: without it they mean nothing. */
export async function describeMachine(): Promise<string> {
  const [vault, openssl] = await Promise.all([run(await vaultBinary(), ['version']), run('openssl', ['version'])])
  const processors = cpus()
  const load = loadavg()
    .map(one => one.toFixed(1))
    .join(' ')
  const versions = `Node ${process.version} with OpenSSL ${process.versions.openssl}, ${openssl.stdout.trim()}, ${vault.stdout.split(',')[0]?.trim()}`
  return `${processors.length} x ${processors[0]?.model.trim()}, load ${load}; ${versions}`
}
