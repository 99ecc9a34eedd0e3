import { randomBytes, X509Certificate } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { expect } from 'vitest'
import { agentCommand } from '../../agent/cli.ts'
import { type FrontDoor, startFrontDoor } from '../fakes/front_door.ts'
import { type Swtpm, startSwtpm } from '../harness/swtpm.ts'
import { folder } from './tools.ts'

export type Outcome = { readonly code: number; readonly out: string; readonly err: string }

/** Runs `assay agent` with these arguments in this process, as the command line would. */
export async function agent(env: Record<string, string>, ...args: string[]): Promise<Outcome> {
  let [code, out, err] = [-1, '', '']
  const command = agentCommand({
    env: { PATH: process.env['PATH'], ...env },
    program: ['assay'],
    now: Date.now,
    random: randomBytes,
    out: text => {
      out += text
    },
    err: text => {
      err += text
    },
    exit: given => {
      code = given
    },
    terminal: false,
    signals: new EventEmitter(),
    directories: [tmpdir()],
  })
  await command.parseAsync(args, { from: 'user' })
  return { code, out, err }
}

/** A TPM that is enrolled at a front door, and files: `issuer.pem` leads from its certificate to what the door trusts. */
export type Machine = AsyncDisposable & {
  readonly swtpm: Swtpm
  readonly door: FrontDoor
  /** where both are */
  readonly env: Record<string, string>
  readonly files: Awaited<ReturnType<typeof folder>>
}

export async function openMachine(): Promise<Machine> {
  await using opening = new AsyncDisposableStack()
  const swtpm = opening.use(await startSwtpm())
  const files = opening.use(await folder())
  await writeFile(files.at('issuer.pem'), swtpm.issuerPem)
  const anchors = [new X509Certificate(swtpm.rootCaPem).raw]
  const door = opening.use(await startFrontDoor({ anchors, quoteRoles: ['strict'] }))
  const env = { ASSAY_ADDR: door.url, ASSAY_TPM: swtpm.spec }
  const enrolled = await agent(env, 'enroll', '--intermediate', files.at('issuer.pem'))
  expect(enrolled).toMatchObject({ code: 0, err: '' })
  const parts = opening.move()
  return { swtpm, door, env, files, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}
