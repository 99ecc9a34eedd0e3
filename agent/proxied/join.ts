import { connect } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { AgentError, exits } from '../exits.ts'
import { readSecret } from '../secret_file.ts'
import type { World } from '../world.ts'

export type Joined = { readonly socket: string; readonly user: string; readonly host: string; readonly port: number }

/** What `ssh` runs to reach its server: gives the companion the credential of now and the place, then passes bytes on. @returns an exit code */
export async function join(
  { env }: Pick<World, 'env'>,
  { socket: path, user, host, port }: Joined,
  input: Readable,
  output: Writable,
): Promise<number> {
  const file = env['ASSAY_CREDENTIAL_FILE']
  if (!file) throw new AgentError('usage', 'wanted ASSAY_CREDENTIAL_FILE: ssh runs this below `assay agent exec --proxy --ssh`')
  const token = await readSecret(file)
  const socket = connect(path)
  socket.write(`${JSON.stringify({ token, user, host, port })}\n`)
  await new Promise<void>((resolve, reject) => {
    socket.once('error', cause => reject(new AgentError('unavailable', 'the companion could not be reached', { cause })))
    socket.once('close', () => resolve())
    output.on('error', () => socket.destroy())
    input.pipe(socket)
    socket.pipe(output)
  })
  return exits.ok.code
}
