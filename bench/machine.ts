import { cpus, loadavg } from 'node:os'
import { run } from '../test/harness/process.ts'
import { vaultBinary } from '../test/harness/vault.ts'

/** What the figures were measured on: without it they mean nothing. */
export async function describeMachine(): Promise<string> {
  const [vault, openssl] = await Promise.all([run(await vaultBinary(), ['version']), run('openssl', ['version'])])
  const speed = Math.round(await opensslPerCpuSecond('rsa2048'))
  const processors = cpus()
  const load = loadavg()
    .map(one => one.toFixed(1))
    .join(' ')
  const versions = `Node ${process.version} with OpenSSL ${process.versions.openssl}, ${openssl.stdout.trim()}, ${vault.stdout.split(',')[0]?.trim()}`
  return `${processors.length} x ${processors[0]?.model.trim()}, load ${load}, openssl verifies ${speed} RSA-2048 signatures a second; ${versions}`
}

/** Verifications that `openssl speed` reaches on one core; it counts user CPU time by itself. It is the yardstick of how fast a machine is at the moment. */
export async function opensslPerCpuSecond(algorithm: string): Promise<number> {
  const { stdout } = await run('openssl', ['speed', '-seconds', '1', algorithm])
  const figures = stdout.trim().split('\n').at(-1)?.trim().split(/\s+/) ?? []
  return Number(figures.at(-1))
}
