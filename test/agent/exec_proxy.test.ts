import { once } from 'node:events'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort, type Running, run, start, until } from '../harness/process.ts'
import { type Authority, newAuthority } from '../mounts/hosts/certificates.ts'
import { type Machine, openMachine } from './cli_world.ts'

// `assay agent exec --proxy` as a process, before a server that stands in for the proxy.

let machine: Machine
let authority: Authority
let env: NodeJS.ProcessEnv
let places: string

beforeAll(async () => {
  machine = await openMachine()
  const { files } = machine
  authority = await newAuthority('proxies')
  await writeFile(files.at('ca.pem'), authority.ca)
  places = files.at('run')
  await mkdir(places)
  env = { PATH: process.env['PATH'], XDG_RUNTIME_DIR: places, ...machine.env }
})
afterAll(() => machine?.[Symbol.asyncDispose]())

const words = (proxy: string, more: readonly string[], command: readonly string[]) => {
  const program = join(import.meta.dirname, '../../scripts/assay.js')
  const way = ['--proxy', proxy, '--proxy-ca', machine.files.at('ca.pem'), ...more]
  return [program, 'agent', 'exec', 'plain', '--role', 'web', ...way, '--', ...command]
}
const exec = (...args: Parameters<typeof words>) => run(process.execPath, words(...args), { env })
const curl = ['sh', '-c', 'curl --silent --show-error --noproxy "*" "$ASSAY_PROXY_BASE/api.test/"']

describe('a proxy that is named by its address', () => {
  test('is known by a certificate for it, and nobody is warned of anything', async () => {
    const proxy = createServer(await authority.issue('proxy.test'), (incoming, outgoing) => outgoing.end(incoming.url))
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    const { stdout, stderr } = await exec(`https://127.0.0.1:${(proxy.address() as AddressInfo).port}`, [], curl)
    proxy.close().closeAllConnections()
    expect({ stdout, stderr }).toEqual({ stdout: '/_/api.test/', stderr: '' })
  })

  test('may have one of IPv6', async () => {
    const { stderr } = await exec(`https://[::1]:${await freePort()}`, [], curl)
    expect(stderr).toMatch(/^assay agent: the proxy could not be reached: (ECONNREFUSED|EADDRNOTAVAIL|ENETUNREACH)$/m)
  })
})

test('an authority that cannot be read is told before anything is asked for', async () => {
  const from = machine.door.requests.length
  const { code, stderr } = await exec('https://127.0.0.1:1', ['--intercept-ca', '/nowhere.pem'], ['true'])
  expect({ code, stderr }).toEqual({ code: 6, stderr: 'assay agent: could not read /nowhere.pem (ENOENT)\n' })
  expect(machine.door.requests).toHaveLength(from)
})

test('the authority is found from whatever folder the command works in', async () => {
  const command = ['sh', '-c', 'cd /; cat "$SSL_CERT_FILE"']
  const args = words('https://127.0.0.1:1', ['--intercept-ca', 'ca.pem'], command)
  const { stdout } = await run(process.execPath, args, { env, cwd: machine.files.at('') })
  expect(stdout).toBe(authority.ca)
})

test('aiohttp finds the way of WebSockets where Python has them named', async () => {
  const program = 'import os, urllib.request as r; print(r.getproxies()["wss"] == os.environ["https_proxy"])'
  expect(await exec('https://127.0.0.1:1', [], ['python3', '-c', program])).toMatchObject({ code: 0, stdout: 'True\n' })
})

test('a command may ask for more credentials: the front door is not behind the proxy', async () => {
  const program = join(import.meta.dirname, '../../scripts/assay.js')
  const nested = [process.execPath, program, 'agent', 'creds', 'plain', '--role', 'web', '--field', 'token']
  const { stdout, stderr } = await exec('https://127.0.0.1:1', [], nested)
  expect({ stdout, stderr }).toEqual({ stdout: expect.stringMatching(/^credential-/), stderr: '' })
})

test('npm takes the authority, whichever one its own settings name', async () => {
  await writeFile(machine.files.at('npmrc'), 'cafile=/etc/other.pem\n')
  const command = ['npm', '--userconfig', machine.files.at('npmrc'), 'config', 'get', 'cafile']
  const ca = machine.files.at('ca.pem')
  expect((await exec('https://127.0.0.1:1', ['--intercept-ca', ca], command)).stdout).toBe(`${ca}\n`)
})

test("Yarn and Perl's LWP find way and authority by names of their own", async () => {
  const named = 'echo "$YARN_HTTPS_PROXY" "$YARN_HTTP_PROXY" "$YARN_HTTPS_CA_FILE_PATH" "$PERL_LWP_SSL_CA_FILE"'
  const usual = 'echo "$https_proxy" "$https_proxy" "$SSL_CERT_FILE" "$SSL_CERT_FILE"'
  const command = ['sh', '-c', `${named}; ${usual}`]
  const { stdout } = await exec('https://127.0.0.1:1', ['--intercept-ca', machine.files.at('ca.pem')], command)
  const [found = '', expected] = stdout.split('\n')
  expect(found).toBe(expected)
  expect(found).toMatch(/^http:.* \/.*ca\.pem$/)
})

test('who is interrupted before there is a credential leaves nothing behind', async () => {
  const from = machine.door.requests.length
  machine.door.faults.push('hang')
  const args = words('https://127.0.0.1:1', ['--postgres', '5432'], ['true'])
  await using running: Running = await start(process.execPath, args, { env })
  await until('it to ask', async () => machine.door.requests.length > from)
  expect(await running.stop('SIGINT')).toMatchObject({ signal: 'SIGINT' })
  expect(await readdir(places)).toEqual([])
})
