import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { Agent, get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { run, until } from '../harness/process.ts'
import { openWorld, type World } from './world.ts'

let world: World
beforeAll(async () => {
  world = await openWorld()
})
afterAll(() => world?.[Symbol.asyncDispose]())

const limit = async (files: number) => {
  const { code, stderr } = await run('prlimit', [`--pid=${world.door.server.pid}`, `--nofile=${files}:4096`])
  if (code !== 0) throw new Error(stderr)
}

test('without files to open a front door closes new connections at once, serves those that it has, says so there, and goes on when there are some', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  onTestFinished(() => agent.destroy())
  const kept = async (path: string) => {
    const [reply] = (await once(get(`${world.door.address}${path}`, { agent }), 'response')) as [IncomingMessage]
    return Buffer.concat((await reply.toArray()) as Buffer[]).toString()
  }
  const { hostname, port } = new URL(world.door.address)
  const told = async (name: string) => Number(new RegExp(`^assay_${name} (\\S+)$`, 'm').exec(await kept('/metrics'))?.[1])
  await kept('/healthz')
  const most = (await readdir(`/proc/${world.door.server.pid}/fd`)).length + 10
  await limit(most)
  expect(await told('open_files_limit')).toBe(most)
  const crowd = Array.from({ length: 40 }, () => connect(Number(port), hostname).on('error', () => undefined))
  await Promise.any(crowd.map(socket => once(socket, 'close')))
  expect(await told('open_files')).toBe(most)
  expect(JSON.parse(await kept('/readyz'))).toMatchObject({ ready: true })
  for (const socket of crowd) socket.destroy()
  await until('to be let in', async () => (await fetch(`${world.door.address}/readyz`).catch(() => undefined))?.ok)
  expect(await told('open_files')).toBeLessThan(most)
})

test('several names can be resolved at once: half of these threads do that', async () => {
  const { pid } = world.door.server
  const names = await Promise.all(
    (await readdir(`/proc/${pid}/task`)).map(task => readFile(`/proc/${pid}/task/${task}/comm`, 'utf8')),
  )
  expect(names.filter(name => name.trim() === 'libuv-worker')).toHaveLength(16)
})
